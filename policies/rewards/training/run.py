"""A whole training of VideoReward: data, loop, measurements, checkpoints, and the model at the end.

Going on is the same call again: it starts from the newest checkpoint in its folder, and on CPU with equal torch threads
it ends with the weights of a training that was never stopped, to the last bit.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import torch

from policies.errors import InputError, WeightsMismatchError
from policies.learner_state import LearnerState
from policies.optimizers import Schedule
from policies.rewards.training.config import RewardTrainingConfig
from policies.rewards.training.curve import write_curve
from policies.rewards.training.dataset import TrainingData, read_training_data
from policies.rewards.training.examples import (
    videos_of,
)
from policies.rewards.training.folder import CURVE, TrainingFolder
from policies.rewards.training.layout import own_scale_of, save_published
from policies.rewards.training.loop import StepStats, train
from policies.rewards.training.losses import Loss, PairLoss, RegressionLoss
from policies.rewards.training.measuring import Measuring
from policies.rewards.training.optimizer import AdamSettings, RewardOptimizer
from policies.rewards.training.video_reward import VideoRewardTrainee
from policies.rewards.training.videos import ClipCache, TrainingSteps, VideoSource
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
    data = read_training_data(config)
    trainee = VideoRewardTrainee.load(config)
    return _Training(config, folder, data, trainee, observer).run(should_stop)


class _Training:
    def __init__(
        self,
        config: RewardTrainingConfig,
        folder: TrainingFolder,
        data: TrainingData,
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
        self._measuring = Measuring(
            measure=trainee.measure, source=self._source, videos_at_once=2 * config.micro_batch_pairs
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
        if should_stop():  # while the model was loaded
            return self._result("stopped")
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
        found = self._measuring.agreement(self._data.heldout)
        line = self._place() | {
            "heldout": {name: asdict(agreement) for name, agreement in found.by_dimension.items()},
            "heldout_examples": found.examples,
            "measured_in_seconds": time.monotonic() - begun,
            "seconds": time.monotonic() - self._begun,
        }
        self._folder.add_line(line)
        write_curve(self._folder.path / CURVE, self._folder.lines())
        self._observer.on_measured(line)

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
        rows = self._measuring.scores(videos[: self._config.scale_videos])
        scale = own_scale_of(list(rows.values()))
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


def _check_device(device: str) -> None:
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"model.device: {device!r} cannot be used here: {str(error).splitlines()[0]}") from error
