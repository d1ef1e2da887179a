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

import torch
import torch.nn.functional as F
from torch import Tensor

from policies.errors import InputError


def bradley_terry_losses(first_BD: Tensor, second_BD: Tensor, labels_BD: Tensor) -> Tensor:
    """Plain Bradley-Terry, -log sigmoid(+-(r_first - r_second)), of every entry (B, D); 0 for ties and unjudged ones.

    Raises:
        InputError: shapes differ.
    """
    _check(first_BD, second_BD, labels_BD)
    is_used_BD = labels_BD.isfinite() & (labels_BD != 0)
    sign_BD = labels_BD.where(is_used_BD, torch.zeros_like(labels_BD))
    return -F.logsigmoid(sign_BD * (first_BD - second_BD).float()) * is_used_BD


def bradley_terry_ties_losses(first_BD: Tensor, second_BD: Tensor, labels_BD: Tensor, *, theta: float) -> Tensor:
    """Negative log likelihood of labels with ties (Rao-Kupper, see module), of every entry; 0 for unjudged ones.

    Args:
        first_BD: raw scores, float.
        second_BD: same shape.
        labels_BD: +1, 0, -1 or NaN, same shape.
        theta: > 1. How wide a tie is: with theta = 3 equal scores tie with probability 1/2.
    Returns:
        (B, D) float32. Swapping first and second and the labels' sign leaves it as it is.
    Raises:
        InputError: shapes differ, or theta <= 1.
    """
    _check(first_BD, second_BD, labels_BD)
    if theta <= 1:
        raise InputError(f"theta {theta} must be > 1, or ties have no probability (bradley_terry_losses knows none).")
    difference_BD = (first_BD - second_BD).float()
    log_first_BD = F.logsigmoid(difference_BD - math.log(theta))
    log_second_BD = F.logsigmoid(-difference_BD - math.log(theta))
    log_tie_BD = math.log(theta**2 - 1) + log_first_BD + log_second_BD
    log_BD = torch.where(labels_BD > 0, log_first_BD, torch.where(labels_BD < 0, log_second_BD, log_tie_BD))
    return -log_BD * labels_BD.isfinite()


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
