"""What a reward model is trained to make small: losses on pairs, and on ratings.

Legend: B pairs, N videos, D dimensions. A batch of pairs is scored as 2B videos: all the first ones, then all the
second ones. Each loss is a mean over entries (one dimension of one pair or video), given as sum and count, so that it
does not depend on how a batch is cut into micro-batches.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

from torch import Tensor

from policies.errors import InputError
from policies.rewards.bradley_terry import bradley_terry_losses, bradley_terry_ties_losses

InvalidEntries = Literal["in_mean", "left_out"]
"""in_mean: entries without a usable label add 0 to the loss and still count in its mean, as in VideoAlign's code."""


class Loss(Protocol):
    """A loss on raw scores."""

    def total(self, scores_ND: Tensor, labels_XD: Tensor) -> Tensor:
        """Sum over entries, a scalar with a graph. Raises InputError when scores and labels do not go together."""
        ...

    def entries(self, labels_XD: Tensor) -> int:
        """Entries that count in the mean."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class PairLoss:
    """Bradley-Terry on labelled pairs (labels (B, D), see `policies.rewards.bradley_terry`).

    Args:
        theta: > 1 models ties (BTT); 1 is plain Bradley-Terry, which leaves ties out.
        shrinkage: adds half of this times the squared scores, which pulls scores to 0; pairs leave their level free.
        invalid: see InvalidEntries; without ties (theta = 1), ties are such entries.
    """

    theta: float = 5.0
    shrinkage: float = 0.0
    invalid: InvalidEntries = "in_mean"

    def __post_init__(self) -> None:
        if self.theta < 1 or self.shrinkage < 0:
            raise InputError(f"theta {self.theta} must be >= 1 and shrinkage {self.shrinkage} >= 0.")

    def total(self, scores_ND: Tensor, labels_BD: Tensor) -> Tensor:
        """Sum over entries of the pairs whose first videos are scores_ND[:B], second ones scores_ND[B:]."""
        if len(scores_ND) != 2 * len(labels_BD):
            raise InputError(f"{len(labels_BD)} pairs need {2 * len(labels_BD)} scores, got {len(scores_ND)}.")
        first_BD, second_BD = scores_ND.chunk(2)
        if self.theta > 1:
            losses_BD = bradley_terry_ties_losses(first_BD, second_BD, labels_BD, theta=self.theta)
        else:
            losses_BD = bradley_terry_losses(first_BD, second_BD, labels_BD)
        size = (first_BD.square() + second_BD.square()).sum() / 2
        return losses_BD.sum() + self.shrinkage * size

    def entries(self, labels_BD: Tensor) -> int:
        """B D, or those with a label that this loss can use."""
        if self.invalid == "in_mean":
            return labels_BD.numel()
        is_used_BD = labels_BD.isfinite() if self.theta > 1 else labels_BD.isfinite() & (labels_BD != 0)
        return int(is_used_BD.sum())


@dataclass(frozen=True, slots=True, kw_only=True)
class RegressionLoss:
    """Squared error against ratings (N, D) on the ratings' own scale; NaN: not rated.

    VideoAlign's regression takes mean opinion scores minus 3 and leaves a score of 0 out; see `PairTable.ratings`.
    """

    invalid: InvalidEntries = "left_out"

    def total(self, scores_ND: Tensor, ratings_ND: Tensor) -> Tensor:
        """Sum over rated entries."""
        if scores_ND.shape != ratings_ND.shape:
            raise InputError(f"scores {tuple(scores_ND.shape)} and ratings {tuple(ratings_ND.shape)} differ in shape.")
        is_rated_ND = ratings_ND.isfinite()
        return (scores_ND.float() - ratings_ND.nan_to_num()).square().mul(is_rated_ND).sum()

    def entries(self, ratings_ND: Tensor) -> int:
        """N D, or those with a rating."""
        return ratings_ND.numel() if self.invalid == "in_mean" else int(ratings_ND.isfinite().sum())
