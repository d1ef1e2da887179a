"""Agreement of score differences with people's choices between two videos, ties included.

Legend: P pairs. A label is +1 where people prefer the first video, -1 where they prefer the second, 0 where they call
them the same; a difference is score(first) - score(second), in any unit. A threshold in the unit of the differences
turns them into choices: |difference| <= threshold predicts a tie, else the sign chooses; None predicts no tie at all.

Without a tie predicted, a difference of 0 chooses nobody and is wrong. Ties with a threshold follow Deutsch et al. 2023
(arXiv 2305.14324); `accuracy_with_ties_of_the_reference` repeats what VideoAlign's evaluation (arXiv 2501.13918)
computes instead.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from policies.errors import InputError

Labels = NDArray[np.int64]
Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class TieThreshold:
    """The threshold that agrees best with people, and how far; a threshold of None predicts no tie."""

    accuracy: float
    threshold: float | None


def is_agreed(labels_P: Labels, differences_P: Floats, threshold: float | None) -> Flags:
    """Which pairs a threshold gets right, (P,)."""
    is_right = labels_P * np.sign(differences_P) > 0
    if threshold is None:
        return is_right
    is_close = np.abs(differences_P) <= threshold
    agreed: Flags = np.where(is_close, labels_P == 0, is_right)
    return agreed


def accuracy_without_ties(labels_P: Labels, differences_P: Floats) -> float | None:
    """Share of pairs with a preference whose difference has its sign; None without such pairs."""
    _check(labels_P, differences_P)
    is_decided = labels_P != 0
    if not is_decided.any():
        return None
    return _share(is_agreed(labels_P, differences_P, None)[is_decided])


def accuracy_at(labels_P: Labels, differences_P: Floats, threshold: float | None) -> float:
    """Share of all pairs that a threshold gets right."""
    _check(labels_P, differences_P)
    return _share(is_agreed(labels_P, differences_P, threshold))


def best_tie_threshold(labels_P: Labels, differences_P: Floats) -> TieThreshold:
    """The exact optimum of `accuracy_at` over all thresholds, "no tie" included.

    Between two observed |difference| the accuracy does not change, so those and None are all there is to try. Of
    equally good ones the smallest observed |difference| is returned, and None only where it is better than any of them.
    """
    _check(labels_P, differences_P)
    sizes_P = np.abs(differences_P)
    order = np.argsort(sizes_P, kind="stable")
    sizes_P, labels_P, differences_P = sizes_P[order], labels_P[order], differences_P[order]
    is_right = is_agreed(labels_P, differences_P, None)
    none = int(is_right.sum())
    # right when the first i + 1 pairs are called ties: their ties, and the right ones of those left
    right = np.cumsum(labels_P == 0) + none - np.cumsum(is_right)
    ends = np.append(np.flatnonzero(np.diff(sizes_P)), len(sizes_P) - 1)  # equal sizes change sides together
    best = ends[np.argmax(right[ends])]
    if none > right[best]:
        return TieThreshold(none / len(sizes_P), None)
    return TieThreshold(int(right[best]) / len(sizes_P), float(sizes_P[best]))


def accuracy_with_ties_of_the_reference(labels_P: Floats, differences_P: Floats) -> float:
    """Accuracy with ties as VideoAlign's own program computes it, to compare with published numbers.

    It calls pairs ties one by one, in order of |difference| (equal ones in the given order), and reads the accuracy
    after each. So with repeated |difference| it reads values that no threshold reaches and can exceed the exact
    optimum, and it never tries "no tie". A pair whose label is NaN (none of the three) is kept and always wrong.
    """
    _check_sizes(labels_P, differences_P)
    order = np.argsort(np.abs(differences_P), kind="stable")
    is_right = (labels_P * np.sign(differences_P) > 0)[order]
    right = np.cumsum(labels_P[order] == 0) + is_right.sum() - np.cumsum(is_right)
    return int(right.max()) / len(right)


def accuracy_without_ties_of_the_reference(labels_P: Floats, differences_P: Floats) -> float | None:
    """Accuracy without ties as the same program computes it: a label of NaN is no tie, and wrong."""
    _check_sizes(labels_P, differences_P)
    is_decided = labels_P != 0
    if not is_decided.any():
        return None
    return _share((labels_P * np.sign(differences_P) > 0)[is_decided])


def half_point_accuracy(labels_P: Labels, differences_P: Floats, *, tie_below: float = 0.5) -> float:
    """Pairwise accuracy of VideoScore's benchmark: a tie is right where |difference| < `tie_below`, a preference where
    the sign is right, however small the difference (arXiv 2406.15252). Scores are those of one to four.
    """
    _check(labels_P, differences_P)
    is_right = is_agreed(labels_P, differences_P, None)
    return _share(np.where(labels_P == 0, np.abs(differences_P) < tie_below, is_right))


def _share(flags: Flags) -> float:
    return int(flags.sum()) / len(flags)


def _check(labels_P: Labels, differences_P: Floats) -> None:
    _check_sizes(labels_P, differences_P)
    if not np.isin(labels_P, (-1, 0, 1)).all():
        raise InputError("labels must be 1, 0 or -1; leave pairs with another label out first")


def _check_sizes(labels_P: Labels | Floats, differences_P: Floats) -> None:
    if labels_P.ndim != 1 or labels_P.shape != differences_P.shape:
        raise InputError(f"labels {labels_P.shape} and differences {differences_P.shape} must be one list each, alike")
    if not len(labels_P):
        raise InputError("there is no pair to evaluate; give at least one")
    if not np.isfinite(differences_P).all():
        raise InputError("differences must be finite numbers; leave pairs without two scores out first")
