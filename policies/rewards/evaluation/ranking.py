"""Best of n: how high a reward model ranks the video that people find best among those of one prompt."""

from __future__ import annotations

from collections.abc import Sequence

from policies.errors import InputError


def rank_of_best(scores: Sequence[float], best: int) -> int:
    """Competition rank, from 1, of the human-best of one prompt's videos: how many score at least as high as it does.

    Ties take the worst rank, so a model that scores everything alike gains nothing.

    Raises:
        InputError: `best` is no index of `scores`, or a score is NaN, which has no rank.
    """
    if not 0 <= best < len(scores) or any(score != score for score in scores):
        raise InputError(f"best {best} must be an index of scores {list(scores)}, and all of them numbers")
    return sum(score >= scores[best] for score in scores)


def mean_reciprocal_rank(ranks: Sequence[int]) -> float:
    """Mean of 1 / rank over prompts, at least one."""
    _check(ranks)
    return sum(1 / rank for rank in ranks) / len(ranks)


def recall_at(k: int, ranks: Sequence[int]) -> float:
    """Share of prompts whose human-best is among the k highest; with fewer than k videos it always is."""
    _check(ranks)
    return sum(rank <= k for rank in ranks) / len(ranks)


def _check(ranks: Sequence[int]) -> None:
    if not ranks:
        raise InputError("there is no prompt to evaluate; give at least one")
