"""The learner: one preference update after another on the policy's LoRA weights, against a named reference.

An update has three phases and no toggling between them: the reference predicts, the frozen base predicts a little (for
one metric), then the policy predicts and goes backward. Every rank of a data-parallel learner holds all weights and a
share of the items; it makes exactly two collective calls per update, whatever it holds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from policies import gradient
from policies.clipped_adam import ClippedAdam
from policies.config import LearnerConfig, ObjectiveConfig
from policies.errors import InputError, NonFiniteError, WeightsMismatchError
from policies.learner_state import LearnerState
from policies.micro_batches import MicroBatch, items_of, micro_batches
from policies.objectives.dpo import squared_error
from policies.objectives.objective import build_objective
from policies.policy import VideoPolicy
from policies.rehearsal import noise_pairs
from policies.types import Prompt, Selection, UpdateStats, VideoShape
from policies.weights import weights_hash

AllReduce = Callable[[Tensor], None]  # sums a tensor over all ranks, in place


class LocalLearner:
    """Holds the policy and its reference, and updates them in this process. A `Learner` of `online_vpo`.

    Args:
        policy: its weight sets `policy` and `reference` belong to the learner from now on; the reference becomes a copy
            of the policy at once.
        run_seed: with batch, group and draw it fixes every time and noise.
        max_sequence_length: text tokens after padding, as in sampling.
        rank, world_size: this learner's share of a batch's items.
        all_reduce: sums over the ranks; needed when there are several.
    """

    def __init__(
        self,
        policy: VideoPolicy,
        config: LearnerConfig,
        objective: ObjectiveConfig,
        *,
        run_seed: int,
        max_sequence_length: int,
        rank: int = 0,
        world_size: int = 1,
        all_reduce: AllReduce | None = None,
    ) -> None:
        if not 0 <= rank < world_size or (world_size > 1 and all_reduce is None):
            raise ValueError(f"rank {rank} of {world_size}, all_reduce {all_reduce}: several ranks need an all_reduce")
        self._policy, self._config, self._objective_config = policy, config, objective
        self._objective = build_objective(objective)
        self._run_seed, self._max_sequence_length = run_seed, max_sequence_length
        self._rank, self._world_size, self._all_reduce = rank, world_size, all_reduce
        self._columns = ("loss", *self._objective.metric_names, "latent_std_chosen", "latent_std_rejected", "kl_base")
        self._optimizer = ClippedAdam(dict(policy.trainable()), config)
        self._policy_version = self._reference_version = 0
        self._last_stats: UpdateStats | None = None
        policy.blend("policy", "reference")  # G_ref <- G_theta

    @property
    def policy_version(self) -> int:
        """Number of updates, skipped ones included, in the policy's weights."""
        return self._policy_version

    @property
    def reference_version(self) -> int:
        """The policy version that the reference is a copy of."""
        return self._reference_version

    async def update(self, batch: Sequence[Selection], *, batch_index: int) -> UpdateStats:
        """One optimizer step on the pairs of a batch; on several ranks, called on each with the same pairs.

        Args:
            batch: pairs whose candidates carry latents, (*latent) float32 tensors or arrays. Empty: the version
                advances and nothing else changes, Adam's moments included.
            batch_index: equals `policy_version`; or is the one before, which is answered as the first time.
        Raises:
            NonFiniteError: loss or gradient is NaN or infinite on some rank; nothing has changed on any.
            InputError: another batch_index, or latents that do not fit the policy.
        """
        last = self._last_stats
        if last is not None and batch_index == last.batch_index:
            return last
        if batch_index != self._policy_version:
            raise InputError(
                f"batch {batch_index} does not follow: the policy is at version {self._policy_version}, so the next "
                f"batch is {self._policy_version} and only the one before it can be repeated"
            )
        loss, metrics = self._step(batch, batch_index) if batch else (None, {"pairs": 0.0})
        self._last_stats = UpdateStats(
            batch_index=batch_index,
            policy_version=self._policy_version,
            reference_version=self._reference_version,
            loss=loss,
            metrics=metrics,
            weights_hash=weights_hash(self._policy.export("policy")),
        )
        self._policy_version += 1
        return self._last_stats

    async def update_reference(self) -> int:
        """Copies policy to reference, in place; the optimizer goes on as it was. Harmless to repeat."""
        self._policy.blend("policy", "reference")
        self._reference_version = self._policy_version
        return self._reference_version

    def rehearse(self, prompts: Sequence[Prompt], shape: VideoShape) -> None:
        """Computes an update on noise and changes nothing: what does not fit into memory shows before the first video
        is drawn, and the first update takes no longer than the others.

        Raises:
            InputError: the device's memory is not enough.
        """
        batch = noise_pairs(prompts, shape, self._policy.latent_shape(shape))
        count = len(batch) * self._objective_config.draws_per_pair
        table = torch.zeros(count, len(self._columns), dtype=torch.float64, device=self._policy.device)
        try:
            self._accumulate(self._micro_batches(batch, batch_index=0), table)
        except torch.OutOfMemoryError as error:
            raise InputError(
                f"an update on videos of {shape} does not fit into the memory of {self._policy.device}: {error}. Use "
                "learner.gradient_mode two_pass, a smaller learner.pairs_per_forward, policy.gradient_checkpointing, "
                "or smaller videos"
            ) from error
        finally:
            self._optimizer.clear_gradient()

    def state(self) -> LearnerState:
        """A copy of everything the next update depends on, and the answer to a replay of the last one."""
        tensors = {f"{which}/{name}": t for which in ("policy", "reference")
                   for name, t in self._policy.export(which).items()}  # fmt: skip
        tensors |= {f"adam/{name}": tensor for name, tensor in self._optimizer.moments().items()}
        values = {
            "policy_version": self._policy_version,
            "reference_version": self._reference_version,
            "optimizer_steps": self._optimizer.steps,
            "weights_hash": weights_hash(self._policy.export("policy")),
            "last_stats": asdict(self._last_stats) if self._last_stats else None,
        }
        return LearnerState(tensors=tensors, values=values)

    def load_state(self, state: LearnerState) -> None:
        """Goes on from a state, bit for bit on CPU.

        Raises:
            WeightsMismatchError: the state is of other weights, or not whole; the learner is then unusable.
        """
        values = state.values
        self._policy.load("policy", state.part("policy"))
        self._policy.load("reference", state.part("reference"))
        found = weights_hash(self._policy.export("policy"))
        if found != values["weights_hash"]:
            raise WeightsMismatchError(
                f"the learner's state has weights {found[:12]} but names {values['weights_hash'][:12]}; it is damaged"
            )
        self._optimizer.load(state.part("adam"), steps=values["optimizer_steps"])
        self._policy_version, self._reference_version = values["policy_version"], values["reference_version"]
        self._last_stats = UpdateStats(**values["last_stats"]) if values["last_stats"] else None

    def save(self, folder: Path) -> dict[str, str]:
        """Writes the state as learner.safetensors and learner.json; returns sha256 by file name."""
        return self.state().write(folder)

    def restore(self, folder: Path) -> None:
        """Goes on from what `save` wrote. Raises WeightsMismatchError when it is unreadable or does not fit."""
        self.load_state(LearnerState.read(folder))

    def _step(self, batch: Sequence[Selection], batch_index: int) -> tuple[float, dict[str, float]]:
        count = len(batch) * self._objective_config.draws_per_pair
        # one row per item of the whole batch, zero where another rank holds it; so its sum is every item's row
        table = torch.zeros(count, len(self._columns), dtype=torch.float64, device=self._policy.device)
        self._optimizer.clear_gradient()
        try:
            self._accumulate(self._micro_batches(batch, batch_index), table)
            flat = self._optimizer.flat_gradient()
        finally:
            self._optimizer.clear_gradient()
        if self._all_reduce is not None:
            self._all_reduce(flat)
            self._all_reduce(table)
        means = dict(zip(self._columns, table.mean(0).tolist(), strict=True))
        norm = torch.linalg.vector_norm(flat).item()
        self._check_finite(table, norm, batch, batch_index)
        learning_rate = self._optimizer.step(flat, norm)
        metrics = means | {
            "gradient_norm": norm,
            "learning_rate": learning_rate,
            "gap_mean": sum(pair.gap for pair in batch) / len(batch),
            "pairs": float(len(batch)),
        }
        return metrics.pop("loss"), metrics

    def _micro_batches(self, batch: Sequence[Selection], batch_index: int) -> list[MicroBatch]:
        items = items_of(
            batch,
            draws_per_pair=self._objective_config.draws_per_pair,
            rank=self._rank,
            world_size=self._world_size,
        )
        texts = sorted({item.pair.prompt.text for item in items})
        embedded = self._policy.embed(texts, max_sequence_length=self._max_sequence_length)
        embeddings = {text: e.to(self._policy.device) for text, e in zip(texts, embedded, strict=True)}
        return list(
            micro_batches(
                items,
                policy=self._policy,
                embeddings=embeddings,
                objective=self._objective_config,
                run_seed=self._run_seed,
                batch_index=batch_index,
                pairs_per_forward=self._config.pairs_per_forward,
            )
        )

    def _accumulate(self, micro: Sequence[MicroBatch], table: Tensor) -> None:
        """Adds the gradient of this rank's items to the weights and writes their rows of the table."""
        policy, mode = self._policy, self._config.gradient_mode
        with policy.use("reference"):
            references = [gradient.predict(part.forward(policy), part.samples, mode=mode) for part in micro]
        # Drift from the frozen base is watched, not trained on: one draw, and only the chosen sample, of each pair.
        with policy.use(None):
            bases = [
                gradient.predict(part.forward(policy, part.first_draws), len(part.first_draws), mode=mode)
                for part in micro
            ]
        with policy.use("policy"):
            for part, reference_S, base_P in zip(micro, references, bases, strict=True):
                loss = partial(self._loss, part, reference_S, base_P, len(table))
                rows = gradient.backward(part.forward(policy), part.samples, loss, mode=mode)
                table[[item.index for item in part.items]] = rows.to(table)

    def _loss(
        self, part: MicroBatch, reference_S: Tensor, base_P: Tensor, count: int, prediction_S: Tensor
    ) -> tuple[Tensor, Tensor]:
        """This micro-batch's share of the batch's mean loss, and the table's rows of its items. P: first draws."""
        chosen_B, rejected_B = prediction_S.chunk(2)
        loss_B, metrics = self._objective.loss(chosen_B, rejected_B, part.targets(reference_S))
        std_chosen_B, std_rejected_B = part.latent_std_S.chunk(2)
        kl_base_B = torch.zeros(len(part.items), dtype=torch.float64, device=loss_B.device)
        if part.first_draws:
            # one of a pair's draws has it, so it counts for all of them in the mean over items
            moved_P = squared_error(prediction_S.detach()[part.first_draws], base_P)
            kl_base_B[part.first_draws] = self._objective_config.draws_per_pair * moved_P
        columns = {
            "loss": loss_B.detach(),
            **metrics,
            "latent_std_chosen": std_chosen_B,
            "latent_std_rejected": std_rejected_B,
            "kl_base": kl_base_B,
        }
        return loss_B.sum() / count, torch.stack([columns[name] for name in self._columns], dim=1)

    def _check_finite(self, table: Tensor, norm: float, batch: Sequence[Selection], batch_index: int) -> None:
        """Raises NonFiniteError naming the groups. All ranks hold the same sums, so all raise or none does."""
        bad_items = (~table.isfinite().all(1)).nonzero().flatten().tolist()
        if not bad_items and math.isfinite(norm):
            return
        groups = sorted({batch[item // self._objective_config.draws_per_pair].group_id for item in bad_items})
        raise NonFiniteError(
            f"update {batch_index}: mean loss {table[:, 0].mean().item()}, gradient norm {norm}, not finite in groups "
            f"{groups or 'none'}; weights and optimizer are unchanged. Check those latents; if they are fine, "
            f"lower learner.learning_rate (now {self._config.learning_rate})"
        )
