"""Pairs as the network sees them: items, split over ranks, packed into micro-batches of one shape.

An *item* is one pair at one draw of (time, noise). Items are numbered over the whole batch, pair by pair; rank r of n
takes items r, r+n, r+2n, ... Their number, not a rank's share of it, is the denominator of the loss.

Shape letters: B items of a micro-batch; S = 2B samples, the B chosen ones first, then the B rejected ones in the same
order; L text tokens; D embedding. A latent is one sample in the family's own order.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from policies.config import ObjectiveConfig
from policies.errors import InputError
from policies.gradient import Forward
from policies.objectives.dpo import PairTargets
from policies.policy import PromptEmbedding, VideoPolicy
from policies.timesteps import noise_draw
from policies.types import Candidate, Pair


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One pair at one draw; `index` counts the items of the batch over all ranks."""

    index: int
    pair: Pair
    draw: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MicroBatch:
    """Items of one shape, noised, on the policy's device."""

    items: tuple[Item, ...]
    noisy_S: Tensor
    t_S: Tensor
    target_S: Tensor
    embeddings_S: tuple[PromptEmbedding, ...]  # each (L, D)
    noise_error_weight_B: Tensor
    latent_std_S: Tensor  # of the clean latents

    @property
    def samples(self) -> int:
        return 2 * len(self.items)

    @property
    def first_draws(self) -> list[int]:
        """Rows of the chosen samples at their pair's first draw; at most one per pair."""
        return [row for row, item in enumerate(self.items) if item.draw == 0]

    def forward(self, policy: VideoPolicy, rows: Sequence[int] | None = None) -> Forward:
        """The network on some rows of S (None: all) with the weight set in use, as a function of a range of them."""
        chosen = range(self.samples) if rows is None else rows

        def predict(part: slice) -> Tensor:
            index = list(chosen[part])
            return policy.predict(self.noisy_S[index], self.t_S[index], [self.embeddings_S[row] for row in index])

        return predict

    def targets(self, reference_S: Tensor) -> PairTargets:
        """What predictions are judged against, given the reference's predictions."""
        target_chosen_B, target_rejected_B = self.target_S.chunk(2)
        reference_chosen_B, reference_rejected_B = reference_S.chunk(2)
        return PairTargets(
            target_chosen_B=target_chosen_B,
            target_rejected_B=target_rejected_B,
            reference_chosen_B=reference_chosen_B,
            reference_rejected_B=reference_rejected_B,
            noise_error_weight_B=self.noise_error_weight_B,
        )


def items_of(batch: Sequence[Pair], *, draws_per_pair: int, rank: int = 0, world_size: int = 1) -> list[Item]:
    """The items of a rank; all ranks together hold each item once."""
    pairs_and_draws = ((pair, draw) for pair in batch for draw in range(draws_per_pair))
    items = [Item(index=index, pair=pair, draw=draw) for index, (pair, draw) in enumerate(pairs_and_draws)]
    return items[rank::world_size]


def micro_batches(
    items: Iterable[Item],
    *,
    policy: VideoPolicy,
    embeddings: Mapping[str, PromptEmbedding],
    objective: ObjectiveConfig,
    run_seed: int,
    batch_index: int,
    pairs_per_forward: int | None,
) -> Iterator[MicroBatch]:
    """Packs items into micro-batches, never mixing shapes.

    Args:
        items: in the order of their numbers, which is kept within a shape.
        embeddings: by prompt text.
        pairs_per_forward: most items of a micro-batch; None: all of one shape.
    Raises:
        InputError: a candidate's latents do not have the shape that the policy gives videos of its size.
    """
    by_shape: dict[tuple[int, ...], list[Item]] = {}
    for item in items:
        by_shape.setdefault(policy.latent_shape(item.pair.chosen_candidate.shape), []).append(item)
    for latent_shape, same in by_shape.items():
        size = pairs_per_forward or len(same)
        for start in range(0, len(same), size):
            part = tuple(same[start : start + size])
            draws = [
                noise_draw(
                    objective,
                    run_seed=run_seed,
                    batch_index=batch_index,
                    group_id=item.pair.group_id,
                    draw=item.draw,
                    latent_shape=latent_shape,
                )
                for item in part
            ]
            clean_S = torch.stack(
                [_latents(item.pair.chosen_candidate, latent_shape) for item in part]
                + [_latents(item.pair.rejected_candidate, latent_shape) for item in part]
            ).to(policy.device)
            # one draw for both members of a pair: the S axis repeats the B draws
            t_B = policy.times(torch.stack([draw.u for draw in draws]).to(policy.device))
            noise_S = torch.stack([draw.noise for draw in draws]).to(policy.device).repeat(2, 1, 1, 1, 1)
            t_S = t_B.repeat(2)
            texts_S = tuple(embeddings[item.pair.prompt.text] for item in part) * 2
            yield MicroBatch(
                items=part,
                noisy_S=policy.add_noise(clean_S, noise_S, t_S),
                t_S=t_S,
                target_S=policy.target(clean_S, noise_S, t_S),
                embeddings_S=texts_S,
                noise_error_weight_B=policy.noise_error_weight(t_B),
                latent_std_S=clean_S.flatten(1).std(1),
            )


def _latents(candidate: Candidate, latent_shape: tuple[int, ...]) -> Tensor:
    """A candidate's latents as a float32 tensor on CPU or wherever they are, (*latent)."""
    latents = candidate.latents
    # an array from an object store is read-only, which torch can only copy
    tensor = torch.tensor(latents) if isinstance(latents, np.ndarray) else latents
    if not isinstance(tensor, Tensor):
        raise InputError(
            f"candidate {candidate.seed} of group {candidate.group_id} carries latents of type "
            f"{type(latents).__name__}; resolve the handle to a tensor or array before the update"
        )
    if tuple(tensor.shape) != tuple(latent_shape):
        raise InputError(
            f"candidate {candidate.seed} of group {candidate.group_id} has latents of shape {tuple(tensor.shape)}, but "
            f"videos of {candidate.shape} have {tuple(latent_shape)} in this policy; were they sampled by another one?"
        )
    return tensor.detach().float()
