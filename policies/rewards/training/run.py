"""A whole training of VideoReward: data, loop, measurements, checkpoints, and the model at the end.

Going on is the same call again: it starts from the newest checkpoint in its folder, and on CPU with equal torch threads
it ends with the weights of a training that was never stopped, to the last bit.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from policies.errors import InputError, WeightsMismatchError
from policies.learner_state import LearnerState
from policies.optimizers import Schedule
from policies.rewards.training.config import RewardTrainingConfig
from policies.rewards.training.curve import write_curve
from policies.rewards.training.examples import (
    Example,
    ExampleTable,
    PromptedVideo,
    read_examples,
    split_by_prompt,
    to_learn_from,
    videos_of,
    without_missing_files,
)
from policies.rewards.training.folder import CURVE, TrainingFolder
from policies.rewards.training.layout import own_scale_of, save_published
from policies.rewards.training.loop import StepStats, train
from policies.rewards.training.losses import Loss, PairLoss, RegressionLoss
from policies.rewards.training.metrics import pair_agreement, rating_agreement
from policies.rewards.training.optimizer import AdamSettings, RewardOptimizer
from policies.rewards.training.video_reward import VideoRewardTrainee
from policies.rewards.training.videos import ClipCache, TrainingSteps, VideoSource
from policies.rewards.videoreward.template import DIMENSIONS
from policies.seeds import seed_for


class TrainingObserver(Protocol):
    """Sees a training from outside."""

    def on_start(self, summary: Mapping[str, Any]) -> None:
        """Data is read and the model loaded; says what of it is used."""
        ...

    def on_step(self, stats: StepStats, steps: int) -> None:
        """A step is done, of so many."""
        ...

    def on_measured(self, line: Mapping[str, Any]) -> None:
        """Held-out examples were measured."""
        ...

    def on_event(self, text: str) -> None:
        """Something that a person may want to know."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingResult:
    """How a training ended, and the last that was measured on held-out examples (None: there are none)."""

    folder: Path
    ended: Literal["completed", "stopped"]
    steps: int
    heldout: dict[str, Any] | None
    data: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Data:
    table: ExampleTable
    training: tuple[Example, ...]
    heldout: tuple[Example, ...]
    left_out: int
    digest: str

    def summary(self) -> dict[str, Any]:
        prompts = {example.prompt for example in self.training}
        return {
            "rows": self.table.rows,
            "labels": self.table.counts,
            "rows_left_out": self.left_out,
            "training_examples": len(self.training),
            "training_videos": len(videos_of(self.training)),
            "training_prompts": len(prompts),
            "heldout_examples": len(self.heldout),
            "heldout_prompts": len({example.prompt for example in self.heldout}),
            "heldout_prompts_in_training": len({e.prompt for e in self.heldout} & prompts),
        }


def train_video_reward(
    config: RewardTrainingConfig, observer: TrainingObserver, *, should_stop: Callable[[], bool] = lambda: False
) -> TrainingResult:
    """Trains, or goes on where the training in config.output_dir stopped.

    Args:
        should_stop: asked after every step; a stop writes a checkpoint first.
    Raises:
        InputError: the data, the base model or the folder cannot be used.
        NonFiniteError: a loss or gradient is not finite; the newest checkpoint is as it was.
    """
    folder = TrainingFolder(Path(config.output_dir))
    folder.check(config)
    _check_device(config.model.device)
    data = _read_data(config)
    trainee = VideoRewardTrainee.load(config)
    return _Training(config, folder, data, trainee, observer).run(should_stop)


class _Training:
    def __init__(
        self,
        config: RewardTrainingConfig,
        folder: TrainingFolder,
        data: _Data,
        trainee: VideoRewardTrainee,
        observer: TrainingObserver,
    ) -> None:
        self._config, self._folder, self._data, self._trainee = config, folder, data, trainee
        self._observer = observer
        self._source = VideoSource(
            prepare=trainee.prepare,
            cache=ClipCache(config.data.cache_mib * 2**20),
            workers=config.data.workers,
            skip_unreadable=config.data.skip_unreadable,
        )
        self._batches = TrainingSteps(
            examples=data.training,
            source=self._source,
            batch_size=config.batch_pairs,
            micro_batch_size=config.micro_batch_pairs,
            seed=config.seed,
        )
        self.steps = config.max_steps or max(1, round(config.epochs * self._batches.per_epoch))
        self._optimizer = RewardOptimizer(
            trainee.weight_groups(),
            Schedule(
                lr=1.0,
                steps=self.steps,
                warmup_steps=round(config.optimizer.warmup_ratio * self.steps),
                decay_start=1.0 if config.optimizer.schedule == "constant" else 0.0,
            ),
            AdamSettings(
                betas=config.optimizer.adam_betas,
                eps=config.optimizer.adam_epsilon,
                weight_decay=config.optimizer.weight_decay,
                max_gradient_norm=config.optimizer.max_gradient_norm,
            ),
        )
        self._losses: list[float] = []  # since the last line of metrics
        self._begun = time.monotonic()

    def run(self, should_stop: Callable[[], bool]) -> TrainingResult:
        self._resume()
        self._folder.begin(self._config)
        self._folder.cut_lines(self._optimizer.steps or -1)
        self._observer.on_start(
            self._data.summary()
            | {"steps": self.steps, "first_step": self._optimizer.steps, "trained_weights": self._trained_weights()}
        )
        if self._optimizer.steps == 0:
            self._measure()
        stats = train(
            self._trainee.score,
            self._batches.between(self._optimizer.steps, self.steps),
            loss=_loss_of(self._config),
            optimizer=self._optimizer,
            seed=self._config.seed,
        )
        for done in stats:
            self._after(done)
            if done.step < self.steps and should_stop():
                stats.close()
                self._checkpoint()
                return self._result("stopped")
        if not self._folder.has_model(self.steps):
            self._finish()
        return self._result("completed")

    def _after(self, stats: StepStats) -> None:
        """What is due after a step."""
        self._losses.append(stats.loss)
        self._observer.on_step(stats, self.steps)
        config, is_last = self._config, stats.step == self.steps
        if is_last or self._is_due(stats.step, config.log_interval_epochs):
            self._log(stats)
        if is_last or self._is_due(stats.step, config.evaluation_interval_epochs):
            self._measure()
        if is_last or self._is_due(stats.step, config.checkpoint_interval_epochs):
            self._checkpoint()

    def _is_due(self, step: int, interval_epochs: float) -> bool:
        return step % max(1, round(interval_epochs * self._batches.per_epoch)) == 0

    def _log(self, stats: StepStats) -> None:
        line = self._place() | {
            "loss": sum(self._losses) / len(self._losses),
            "gradient_norm": stats.gradient_norm,
            "learning_rates": stats.learning_rates,
            "entries": stats.entries,
            "unreadable_videos": len(self._source.unreadable),
            "seconds": time.monotonic() - self._begun,
        }
        self._losses.clear()
        self._folder.add_line(line)

    def _measure(self) -> None:
        """Scores the held-out examples."""
        if not self._data.heldout:
            return
        begun = time.monotonic()
        videos = videos_of(self._data.heldout)
        rows = {video: row for video, row in zip(videos, self._scores(videos), strict=True) if row is not None}
        used = [example for example in self._data.heldout if all(video in rows for video in example.videos)]
        if not used:
            raise InputError("none of the held-out videos can be read; check data.heldout and data.videos")
        labels = torch.tensor([example.labels for example in used])
        sides = [torch.stack([rows[example.videos[side]] for example in used]) for side in range(len(used[0].videos))]
        found = (
            pair_agreement(sides[0], sides[1], labels, DIMENSIONS)
            if len(sides) == 2
            else rating_agreement(sides[0], labels, DIMENSIONS)
        )
        line = self._place() | {
            "heldout": {name: asdict(agreement) for name, agreement in found.items()},
            "heldout_examples": len(used),
            "measured_in_seconds": time.monotonic() - begun,
            "seconds": time.monotonic() - self._begun,
        }
        self._folder.add_line(line)
        write_curve(self._folder.path / CURVE, self._folder.lines())
        self._observer.on_measured(line)

    def _scores(self, videos: Sequence[PromptedVideo]) -> list[Tensor | None]:
        """Raw scores (D,) of each video, None where it cannot be read."""
        size = 2 * self._config.micro_batch_pairs
        found: list[Tensor | None] = []
        waiting: list[Any] = []

        def flush() -> None:
            readable = [prepared for prepared in waiting if prepared is not None]
            rows = iter(self._trainee.measure(readable)) if readable else iter(())
            found.extend(None if prepared is None else next(rows) for prepared in waiting)
            waiting.clear()

        for prepared in self._source.inputs(videos):
            waiting.append(prepared)
            if len(waiting) >= size:
                flush()
        flush()
        return found

    def _checkpoint(self) -> None:
        values = {
            "step": self._optimizer.steps,
            "data": self._data.digest,
            "torch_threads": torch.get_num_threads(),
            "losses": self._losses,
        }
        self._folder.save_state(self._optimizer.steps, LearnerState(tensors=self._optimizer.state(), values=values))

    def _resume(self) -> None:
        state = self._folder.newest_state()
        if state is None:
            return
        if state.values["data"] != self._data.digest:
            raise WeightsMismatchError(
                f"the CSV files have changed since the training in {self._folder.path} began; go on with the same "
                "ones, or name another output_dir"
            )
        if state.values["torch_threads"] != torch.get_num_threads():
            self._observer.on_event(
                f"torch has {torch.get_num_threads()} threads, and had {state.values['torch_threads']} before; numbers "
                "may differ in their last bits from those of a training that was never stopped"
            )
        self._optimizer.load(state.tensors, steps=state.values["step"])
        self._losses = list(state.values["losses"])

    def _finish(self) -> None:
        """Measures the scale of scores on training videos, and writes the model."""
        videos = sorted(videos_of(self._data.training), key=lambda v: seed_for("scale", str(v.path), v.prompt))
        rows = [row for row in self._scores(videos[: self._config.scale_videos]) if row is not None]
        scale = own_scale_of(rows)
        if scale is None:
            self._observer.on_event("a dimension's scores do not vary on training videos; scores are left raw")
        save_published(self._trainee, self._folder, step=self.steps, config=self._config, scale=scale)

    def _place(self) -> dict[str, Any]:
        return {"step": self._optimizer.steps, "epoch": self._optimizer.steps / self._batches.per_epoch}

    def _trained_weights(self) -> int:
        return sum(weight.numel() for weight in self._optimizer.weights.values())

    def _result(self, ended: Literal["completed", "stopped"]) -> TrainingResult:
        measured = [line for line in self._folder.lines() if "heldout" in line]
        return TrainingResult(
            folder=self._folder.path,
            ended=ended,
            steps=self._optimizer.steps,
            heldout=measured[-1]["heldout"] if measured else None,
            data=self._data.summary() | {"unreadable_videos": len(self._source.unreadable)},
        )


def _loss_of(config: RewardTrainingConfig) -> Loss:
    loss = config.loss
    if loss.type == "regression":
        return RegressionLoss(invalid=loss.invalid)
    return PairLoss(theta=loss.theta if loss.type == "btt" else 1.0, shrinkage=loss.shrinkage, invalid=loss.invalid)


def _read_data(config: RewardTrainingConfig) -> _Data:
    data = config.data
    table = read_examples(Path(data.train), data, config.loss)
    files = [Path(data.train)]
    if data.heldout is None:
        judged, heldout = split_by_prompt(table.examples, data.heldout_share)
    else:
        files.append(Path(data.heldout))
        judged, heldout = table.examples, read_examples(Path(data.heldout), data, config.loss).examples
    training = to_learn_from(judged, config.loss)
    digests = [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]
    return _Data(
        table=table,
        training=_there(training, data.train, skip=data.skip_unreadable),
        heldout=_there(heldout, data.heldout or data.train, skip=data.skip_unreadable),
        left_out=table.left_out + len(judged) - len(training),
        digest=" ".join(digests),
    )


def _there(examples: Sequence[Example], source: str, *, skip: bool) -> tuple[Example, ...]:
    found = without_missing_files(examples, skip=skip)
    if examples and not found:
        raise InputError(f"{source}: none of its videos is there; set data.videos to the folder they are in")
    return found


def _check_device(device: str) -> None:
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"model.device: {device!r} cannot be used here: {str(error).splitlines()[0]}") from error
