"""Rank correlation of scores with people's ratings."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from policies.errors import InputError

Floats = NDArray[np.float64]


def average_ranks(values_N: Floats) -> Floats:
    """Ranks from 1, (N,); equal values share the mean of theirs."""
    _, group_N, count_G = np.unique(values_N, return_inverse=True, return_counts=True)
    last_G = np.cumsum(count_G)
    ranks_N: Floats = (last_G - (count_G - 1) / 2)[group_N]
    return ranks_N


def spearman(first_N: Floats, second_N: Floats) -> float | None:
    """Spearman's rho in [-1, 1]: Pearson's correlation of average ranks. None where one of the two does not vary.

    Raises:
        InputError: the lists differ in length, or hold something that is not finite.
    """
    if first_N.ndim != 1 or first_N.shape != second_N.shape:
        raise InputError(f"scores {first_N.shape} and ratings {second_N.shape} must be one list each, alike")
    if not (np.isfinite(first_N).all() and np.isfinite(second_N).all()):
        raise InputError("scores and ratings must be finite numbers; leave the others out first")
    if len(first_N) < 2:
        return None
    a, b = average_ranks(first_N), average_ranks(second_N)
    a, b = a - a.mean(), b - b.mean()
    scale = float(np.sqrt((a @ a) * (b @ b)))
    return float(np.clip(a @ b / scale, -1, 1)) if scale > 0 else None
