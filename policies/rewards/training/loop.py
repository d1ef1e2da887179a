"""The training loop of every reward model here: the bundled world's, and VideoReward's.

It yields after each step; the caller evaluates, logs, saves, stops. It needs a function that scores, an optimizer on
that function's weights, a loss, and labelled videos.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from torch import Tensor

from policies.rewards.training.losses import Loss
from policies.rewards.training.optimizer import RewardOptimizer
from policies.seeds import seed_for

Inputs = TypeVar("Inputs")


@dataclass(frozen=True, slots=True)
class LabelledVideos(Generic[Inputs]):
    """Videos as their model takes them, and labels: (B, D) of pairs (2B videos, the first ones first) or (N, D)."""

    inputs: Inputs
    labels: Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Step(Generic[Inputs]):
    """What one optimizer step learns from: the labels of all, and the videos in micro-batches, each used once."""

    labels: Tensor
    micro_batches: Iterable[LabelledVideos[Inputs]]


@dataclass(frozen=True, slots=True, kw_only=True)
class StepStats:
    """Of one step, numbered from 1: all as it was before the step changed the weights."""

    step: int
    loss: float
    gradient_norm: float
    learning_rates: dict[str, float]
    entries: int  # dimensions of pairs or videos that the loss is a mean over


def train(
    score: Callable[[Inputs], Tensor],
    steps: Iterable[Step[Inputs]],
    *,
    loss: Loss,
    optimizer: RewardOptimizer,
    seed: int,
) -> Generator[StepStats, None, None]:
    """Trains until `steps` ends; what is yielded has been learned.

    Args:
        score: raw scores (videos, D) of a micro-batch, with a graph.
        steps: from the step that the optimizer is at.
        loss: its mean over all entries of a step is what is made small, however the step is cut.
        optimizer: of the weights behind `score`.
        seed: of dropout. Each micro-batch has a seed of its own, so a resumed training repeats it.
    Raises:
        NonFiniteError: a loss or gradient is not finite.
    """
    for data in steps:
        rates, entries = optimizer.learning_rates, loss.entries(data.labels)
        total = 0.0
        for index, videos in enumerate(data.micro_batches):
            with _seeded(seed_for("dropout", seed, optimizer.steps, index)):
                part = loss.total(score(videos.inputs), videos.labels) / max(entries, 1)
                part.backward()  # type: ignore[no-untyped-call]
            total += float(part.detach())
        norm = optimizer.step(total)
        yield StepStats(step=optimizer.steps, loss=total, gradient_norm=norm, learning_rates=rates, entries=entries)


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        yield
