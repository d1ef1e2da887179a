"""How well a reward model being trained does on videos that it does not learn from.

Legend: B pairs, N videos, D dimensions; labels +1, -1, 0 and NaN as in `policies.rewards.bradley_terry`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from policies.rewards.bradley_terry import pair_accuracy
from policies.rewards.evaluation.correlation import average_ranks, spearman


@dataclass(frozen=True, slots=True, kw_only=True)
class PairAgreement:
    """Of one dimension.

    accuracy: share of pairs with a preference that the scores order rightly; None without such pairs.
    tie_auc: how often a clear pair's |difference| of scores is larger than a tied one's (1/2: the differences tell
        nothing about ties); None without pairs of both kinds.
    """

    accuracy: float | None
    tie_auc: float | None
    clear: int
    tied: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RatingAgreement:
    """Of one dimension: mean squared error on the ratings' scale, and Spearman's rho; None where there is none."""

    squared_error: float | None
    spearman: float | None
    rated: int


def pair_agreement(
    first_BD: Tensor, second_BD: Tensor, labels_BD: Tensor, dimensions: Sequence[str]
) -> dict[str, PairAgreement]:
    """Agreement of scores with labels, by dimension. Pairs without a usable label are left out of all numbers."""
    accuracy_D = pair_accuracy(first_BD, second_BD, labels_BD).tolist()
    gap_BD = (first_BD - second_BD).abs().double().cpu().numpy()
    label_BD = labels_BD.cpu().numpy()
    found = {}
    for index, name in enumerate(dimensions):
        gap_B, label_B = gap_BD[:, index], label_BD[:, index]
        is_tied, is_clear = label_B == 0, np.isfinite(label_B) & (label_B != 0)
        found[name] = PairAgreement(
            accuracy=accuracy_D[index] if is_clear.any() else None,
            tie_auc=auc(gap_B[is_clear], gap_B[is_tied]),
            clear=int(is_clear.sum()),
            tied=int(is_tied.sum()),
        )
    return found


def rating_agreement(scores_ND: Tensor, ratings_ND: Tensor, dimensions: Sequence[str]) -> dict[str, RatingAgreement]:
    """Agreement of scores with ratings, by dimension, over the rated videos."""
    scores, ratings = scores_ND.double().cpu().numpy(), ratings_ND.double().cpu().numpy()
    found = {}
    for index, name in enumerate(dimensions):
        is_rated = np.isfinite(ratings[:, index])
        score_N, rating_N = scores[is_rated, index], ratings[is_rated, index]
        found[name] = RatingAgreement(
            squared_error=float(np.square(score_N - rating_N).mean()) if len(score_N) else None,
            spearman=spearman(score_N, rating_N),
            rated=len(score_N),
        )
    return found


def auc(positive_N: np.ndarray, negative_N: np.ndarray) -> float | None:
    """Chance that a positive value exceeds a negative one, equal ones counting half (the Mann-Whitney statistic over
    the number of couples); None when one of the two is empty."""
    positives, negatives = len(positive_N), len(negative_N)
    if not positives or not negatives:
        return None
    ranks = average_ranks(np.concatenate([positive_N, negative_N]).astype(np.float64))
    return float((ranks[:positives].sum() - positives * (positives + 1) / 2) / (positives * negatives))
