"""Learning scores from preferences: Bradley-Terry, and Rao-Kupper's form of it that knows ties.

Legend: B pairs, D dimensions of the score. A label is +1 where the first of a pair is better, -1 where the second is,
0 for a tie, and NaN where nobody judged that dimension.

With d = r_first - r_second and theta >= 1 (Rao and Kupper 1967, JASA 62; VideoAlign, arXiv 2501.13918, trains so):

    P(first better)  = sigmoid( d - log theta)
    P(second better) = sigmoid(-d - log theta)
    P(tie)           = (theta^2 - 1) P(first better) P(second better)

theta = 1 is plain Bradley-Terry, in which ties have no probability.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from policies.errors import InputError
from policies.optimizers import Descent, Schedule

Inputs = TypeVar("Inputs")

Progress = Callable[[int, int, float], None]
"""Called after each training step with steps done, steps in all, loss."""


@dataclass(frozen=True, slots=True)
class PairBatch(Generic[Inputs]):
    """Labelled pairs: whatever the reward model takes for the first and for the second, and labels (B, D)."""

    first: Inputs
    second: Inputs
    labels_BD: Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class BradleyTerryConfig:
    """Settings of a training. theta > 1 models ties; shrinkage pulls scores to 0, which pairs alone leave free."""

    steps: int = 900
    lr: float = 2e-3
    warmup_steps: int = 20
    theta: float = 3.0
    shrinkage: float = 1e-3

    def __post_init__(self) -> None:
        if self.theta < 1 or self.shrinkage < 0:
            raise InputError(f"theta {self.theta} must be >= 1 and shrinkage {self.shrinkage} >= 0.")


def bradley_terry_loss(first_BD: Tensor, second_BD: Tensor, labels_BD: Tensor) -> Tensor:
    """Plain Bradley-Terry, -log sigmoid(+-(r_first - r_second)), mean over judged entries that are no ties.

    A batch without such an entry has loss 0 (with a graph, so that it can be back-propagated).
    """
    _check(first_BD, second_BD, labels_BD)
    is_used_BD = labels_BD.isfinite() & (labels_BD != 0)
    sign_BD = labels_BD.where(is_used_BD, torch.zeros_like(labels_BD))
    loss_BD = -F.logsigmoid(sign_BD * (first_BD - second_BD).float())
    return (loss_BD * is_used_BD).sum() / is_used_BD.sum().clamp_min(1)


def bradley_terry_ties_loss(first_BD: Tensor, second_BD: Tensor, labels_BD: Tensor, *, theta: float) -> Tensor:
    """Negative log likelihood of labels with ties (Rao-Kupper, see module), mean over judged entries.

    Args:
        first_BD: raw scores, float.
        second_BD: same shape.
        labels_BD: +1, 0, -1 or NaN, same shape.
        theta: > 1. How wide a tie is: with theta = 3 equal scores tie with probability 1/2.
    Returns:
        Scalar. Swapping first and second and the labels' sign leaves it as it is.
    Raises:
        InputError: shapes differ, or theta <= 1.
    """
    _check(first_BD, second_BD, labels_BD)
    if theta <= 1:
        raise InputError(f"theta {theta} must be > 1, or ties have no probability (bradley_terry_loss knows none).")
    difference_BD = (first_BD - second_BD).float()
    log_first_BD = F.logsigmoid(difference_BD - math.log(theta))
    log_second_BD = F.logsigmoid(-difference_BD - math.log(theta))
    log_tie_BD = math.log(theta**2 - 1) + log_first_BD + log_second_BD
    log_BD = torch.where(labels_BD > 0, log_first_BD, torch.where(labels_BD < 0, log_second_BD, log_tie_BD))
    is_judged_BD = labels_BD.isfinite()
    return -(log_BD * is_judged_BD).sum() / is_judged_BD.sum().clamp_min(1)


def train_bradley_terry(
    model: nn.Module,
    score: Callable[[Inputs], Tensor],
    batches: Iterator[PairBatch[Inputs]],
    config: BradleyTerryConfig,
    *,
    is_muon: Callable[[str, Tensor], bool] = lambda name, weight: False,
    progress: Progress | None = None,
) -> nn.Module:
    """Trains a reward model in place on labelled pairs, with a learning rate that falls linearly to zero.

    Args:
        model: its parameters that need a gradient are trained.
        score: raw scores (B, D) of one side of a batch, through the model.
        batches: endless.
        config: see BradleyTerryConfig; theta = 1 trains without ties.
        is_muon: which parameters Muon takes (see policies.optimizers); AdamW takes the others, by default all.
        progress: called after each step.
    Returns:
        The same model, in evaluation mode.
    Raises:
        NonFiniteError: a loss or gradient is not finite.
    """
    schedule = Schedule(lr=config.lr, steps=config.steps, warmup_steps=config.warmup_steps, decay_start=0.0)
    model.train()
    descent = Descent(model, schedule, is_muon=is_muon)
    for step in range(1, config.steps + 1):
        batch = next(batches)
        first_BD, second_BD = score(batch.first), score(batch.second)
        if config.theta > 1:
            loss = bradley_terry_ties_loss(first_BD, second_BD, batch.labels_BD, theta=config.theta)
        else:
            loss = bradley_terry_loss(first_BD, second_BD, batch.labels_BD)
        size = first_BD.square().mean() + second_BD.square().mean()
        done = descent.step(loss + config.shrinkage * size / 2)
        if progress is not None:
            progress(step, config.steps, done)
    return model.eval()


def pair_accuracy(first_BD: Tensor, second_BD: Tensor, labels_BD: Tensor) -> Tensor:
    """Share of judged pairs that are no ties and that the scores order rightly, per dimension (D,); NaN without any."""
    _check(first_BD, second_BD, labels_BD)
    is_used_BD = labels_BD.isfinite() & (labels_BD != 0)
    is_right_BD = ((first_BD - second_BD) * labels_BD > 0) & is_used_BD
    return is_right_BD.sum(0) / is_used_BD.sum(0)


def _check(first_BD: Tensor, second_BD: Tensor, labels_BD: Tensor) -> None:
    if not first_BD.shape == second_BD.shape == labels_BD.shape:
        raise InputError(
            f"scores {tuple(first_BD.shape)} and {tuple(second_BD.shape)} and labels {tuple(labels_BD.shape)} "
            "must have one shape: pairs, dimensions."
        )
