"""Does a larger score difference mean a surer choice? Predicted confidence against how often it is right.

A Bradley-Terry model with scores s chooses with confidence sigmoid(k |s_first - s_second|). The unit of scores is
arbitrary after normalisation, so k >= 0 is fitted to the pairs themselves, by maximum likelihood; what is left to see
is the shape: points under the diagonal are differences that promise more than they keep.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from policies.rewards.evaluation.bootstrap import Interval
from policies.rewards.evaluation.pairwise import Floats, Labels, is_agreed

_LARGEST_LOGIT = 30.0  # where all choices are right the likelihood grows without end: confidence is 1 to 13 digits here
_STEEPEST = 1e3  # k, per largest |difference|: what is fitted where all choices are right
_Z95 = 1.959963984540054


@dataclass(frozen=True, slots=True, kw_only=True)
class Bin:
    """Pairs of similar |difference|."""

    lowest: float  # |difference|
    highest: float
    preferred: int  # pairs with a preference
    tied: int  # pairs that people call the same
    confidence: float | None  # mean predicted; None without preferences
    accuracy: float | None
    interval: Interval | None  # Wilson's, 95 %, as if pairs were independent


@dataclass(frozen=True, slots=True, kw_only=True)
class Reliability:
    """Confidence and accuracy by |difference|, smallest first."""

    slope: float  # k, per unit of the differences
    calibration_error: float | None  # mean |confidence - accuracy| over bins, by their preferences
    bins: tuple[Bin, ...]


def reliability(labels_P: Labels, differences_P: Floats, *, bins: int = 10) -> Reliability:
    """Pairs in about equally filled bins of |difference| (equal ones stay together), with labels 1, 0, -1."""
    is_decided = labels_P != 0
    sizes_P = np.abs(differences_P)
    is_right = is_agreed(labels_P, differences_P, None)
    slope = _fit_slope(sizes_P[is_decided], is_right[is_decided])
    confidence_P = 1 / (1 + np.exp(-np.minimum(slope * sizes_P, _LARGEST_LOGIT)))
    edges = np.unique(np.quantile(sizes_P, np.linspace(0, 1, bins + 1)[1:-1], method="inverted_cdf"))
    bin_P = np.searchsorted(edges, sizes_P, side="left")
    made = tuple(
        _bin(sizes_P[members], is_decided[members], is_right[members], confidence_P[members])
        for index in range(len(edges) + 1)
        if len(members := np.flatnonzero(bin_P == index))
    )
    return Reliability(slope=slope, calibration_error=_calibration_error(made), bins=made)


def _bin(sizes_P: Floats, is_decided: NDArray[np.bool_], is_right: NDArray[np.bool_], confidence_P: Floats) -> Bin:
    preferred, right = int(is_decided.sum()), int(is_right.sum())
    return Bin(
        lowest=float(sizes_P.min()),
        highest=float(sizes_P.max()),
        preferred=preferred,
        tied=len(sizes_P) - preferred,
        confidence=float(confidence_P[is_decided].mean()) if preferred else None,
        accuracy=right / preferred if preferred else None,
        interval=_wilson(right, preferred) if preferred else None,
    )


def _fit_slope(sizes_P: Floats, is_right: NDArray[np.bool_]) -> float:
    """k >= 0 that makes the choices likeliest. The likelihood is concave in k, so its slope is bisected."""
    largest = float(sizes_P.max(initial=0.0))
    if largest == 0:
        return 0.0
    relative_P = sizes_P / largest
    low, high = 0.0, _STEEPEST

    def gradient(k: float) -> float:
        wrongness = 1 / (1 + np.exp(np.minimum(k * relative_P, _LARGEST_LOGIT)))  # 1 - confidence
        return float((relative_P * (np.where(is_right, wrongness, wrongness - 1))).sum())

    if gradient(low) <= 0:
        return 0.0
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if gradient(middle) > 0 else (low, middle)
    return low / largest


def _wilson(right: int, total: int) -> Interval:
    share, z2 = right / total, _Z95**2
    centre = (share + z2 / (2 * total)) / (1 + z2 / total)
    half = _Z95 / (1 + z2 / total) * float(np.sqrt(share * (1 - share) / total + z2 / (4 * total**2)))
    return max(centre - half, 0.0), min(centre + half, 1.0)


def _calibration_error(bins: tuple[Bin, ...]) -> float | None:
    preferred = sum(each.preferred for each in bins)
    if not preferred:
        return None
    gaps = (
        each.preferred * abs(each.confidence - each.accuracy)
        for each in bins
        if each.confidence is not None and each.accuracy is not None
    )
    return sum(gaps) / preferred
