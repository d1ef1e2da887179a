"""All metrics of a reward model on judged pairs or videos, each with its interval and what it leaves out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TypeAlias

import numpy as np

from policies.errors import InputError
from policies.rewards.evaluation.bootstrap import Bootstrap, Interval
from policies.rewards.evaluation.correlation import spearman
from policies.rewards.evaluation.judgements import JudgedPair, JudgedVideo
from policies.rewards.evaluation.pairwise import (
    Floats,
    Labels,
    accuracy_with_ties_of_the_reference,
    accuracy_without_ties,
    accuracy_without_ties_of_the_reference,
    best_tie_threshold,
    half_point_accuracy,
    is_agreed,
)
from policies.rewards.evaluation.ranking import mean_reciprocal_rank, rank_of_best, recall_at
from policies.rewards.evaluation.reliability import Reliability, reliability

RECALL_AT = (1, 2, 4)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceAccuracies:
    """What VideoAlign's own program reports (pairs with an unusable label are kept, and wrong), and VideoScore's."""

    pairs: int
    accuracy_with_ties: float
    accuracy_without_ties: float | None
    accuracy_half_point_rule: float  # VideoScore's; for scores of one to four, over usable pairs


@dataclass(frozen=True, slots=True, kw_only=True)
class PairMetrics:
    """Agreement on pairs. A pair is used when its label is A, B or same and both scores are there."""

    accuracy_without_ties: float | None  # None: no pair with a preference
    accuracy_without_ties_ci95: Interval | None
    accuracy_with_ties: float
    accuracy_with_ties_ci95: Interval | None  # of the accuracy at tie_threshold, which is not fitted again
    tie_threshold: float | None  # None: predict no tie
    accuracy_with_ties_reference_procedure: float
    pairs_used: int
    pairs_excluded: int
    pairs_with_invalid_label: int  # excluded; whatever its scores
    pairs_with_missing_score: int  # excluded; though its label is usable
    pairs_used_labelled_same: int
    prompts: int  # of the pairs used
    reference_procedure: ReferenceAccuracies
    reliability: Reliability


@dataclass(frozen=True, slots=True, kw_only=True)
class RankingMetrics:
    """Best of n. A prompt is used when all its videos have a score."""

    mrr: float
    mrr_ci95: Interval | None
    recall_at: dict[int, float]
    recall_at_ci95: dict[int, Interval | None]
    prompts_used: int
    prompts_excluded: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RatingMetrics:
    """Rank correlation over all videos that have both a score and a rating."""

    spearman: float | None  # None: scores or ratings do not vary
    spearman_ci95: Interval | None
    videos_used: int
    videos_excluded: int


Metrics: TypeAlias = PairMetrics | RankingMetrics | RatingMetrics


def evaluate_pairs(pairs: Sequence[JudgedPair], bootstrap: Bootstrap) -> PairMetrics:
    """Metrics of judged pairs.

    Raises:
        InputError: no pair can be used, or a difference of scores is too large for a number.
    """
    invalid = sum(pair.label is None for pair in pairs)
    used = [pair for pair in pairs if pair.label is not None and pair.score_A is not None and pair.score_B is not None]
    if not used:
        raise InputError(
            f"no pair can be used: of {len(pairs)}, {invalid} have no label A, B or same, and {len(pairs) - invalid} "
            "lack a score"
        )
    labels_P = np.array([pair.label for pair in used], np.int64)
    differences_P = _differences(used)
    best = best_tie_threshold(labels_P, differences_P)
    ids = [pair.prompt_id for pair in used]
    decided_P = (labels_P != 0).astype(np.float64)
    return PairMetrics(
        accuracy_without_ties=accuracy_without_ties(labels_P, differences_P),
        accuracy_without_ties_ci95=bootstrap.of_share(ids, decided_P, _right(labels_P, differences_P, None)),
        accuracy_with_ties=best.accuracy,
        accuracy_with_ties_ci95=bootstrap.of_share(
            ids, np.ones(len(used)), _right(labels_P, differences_P, best.threshold)
        ),
        tie_threshold=best.threshold,
        accuracy_with_ties_reference_procedure=accuracy_with_ties_of_the_reference(
            labels_P.astype(np.float64), differences_P
        ),
        pairs_used=len(used),
        pairs_excluded=len(pairs) - len(used),
        pairs_with_invalid_label=invalid,
        pairs_with_missing_score=len(pairs) - len(used) - invalid,
        pairs_used_labelled_same=int((labels_P == 0).sum()),
        prompts=len(set(ids)),
        reference_procedure=_as_the_reference(pairs, half_point_accuracy(labels_P, differences_P)),
        reliability=reliability(labels_P, differences_P),
    )


def evaluate_ranking(
    videos: Sequence[JudgedVideo], bootstrap: Bootstrap, *, recall_ks: Sequence[int] = RECALL_AT
) -> RankingMetrics:
    """Metrics of best-of-n data.

    Raises:
        InputError: a prompt has no best video or several, or no prompt can be used.
    """
    groups: dict[str, list[JudgedVideo]] = {}
    for video in videos:
        groups.setdefault(video.prompt_id, []).append(video)
    ranks: dict[str, int] = {}
    for prompt_id, group in groups.items():
        best = [index for index, video in enumerate(group) if video.is_best]
        if len(best) != 1:
            raise InputError(f"prompt {prompt_id!r}: {len(best)} of {len(group)} videos are marked best; mark one")
        scores = [video.score for video in group if video.score is not None]
        if len(scores) == len(group):
            ranks[prompt_id] = rank_of_best(scores, best[0])
    if not ranks:
        raise InputError(f"no prompt can be used: each of {len(groups)} has a video without a score")
    ids, values = list(ranks), list(ranks.values())
    each = np.ones(len(values))
    ranks_P = np.array(values)
    return RankingMetrics(
        mrr=mean_reciprocal_rank(values),
        mrr_ci95=bootstrap.of_share(ids, each, 1 / ranks_P),
        recall_at={k: recall_at(k, values) for k in recall_ks},
        recall_at_ci95={k: bootstrap.of_share(ids, each, (ranks_P <= k).astype(np.float64)) for k in recall_ks},
        prompts_used=len(ranks),
        prompts_excluded=len(groups) - len(ranks),
    )


def evaluate_ratings(videos: Sequence[JudgedVideo], bootstrap: Bootstrap) -> RatingMetrics:
    """Rank correlation with ratings. Raises InputError when no video has both."""
    used = [(v.prompt_id, v.score, v.rating) for v in videos if v.score is not None and v.rating is not None]
    if not used:
        raise InputError(f"no video can be used: none of {len(videos)} has both a score and a rating")
    scores_N, ratings_N = np.array([row[1] for row in used]), np.array([row[2] for row in used])
    return RatingMetrics(
        spearman=spearman(scores_N, ratings_N),
        spearman_ci95=bootstrap.of_metric(
            [row[0] for row in used], lambda drawn: spearman(scores_N[drawn], ratings_N[drawn])
        ),
        videos_used=len(used),
        videos_excluded=len(videos) - len(used),
    )


def as_json(metrics: Metrics) -> dict[str, object]:
    """Metrics as JSON values: recall at k becomes one key for each k."""
    values = asdict(metrics)
    if isinstance(metrics, RankingMetrics):
        recall, intervals = values.pop("recall_at"), values.pop("recall_at_ci95")
        values |= {f"recall_at_{k}": share for k, share in recall.items()}
        values |= {f"recall_at_{k}_ci95": interval for k, interval in intervals.items()}
    return values


def _differences(used: Sequence[JudgedPair]) -> Floats:
    scores_P2 = np.array([(pair.score_A, pair.score_B) for pair in used], np.float64)
    with np.errstate(over="ignore"):
        differences_P: Floats = scores_P2[:, 0] - scores_P2[:, 1]
    if not np.isfinite(differences_P).all():
        pair = used[int(np.flatnonzero(~np.isfinite(differences_P))[0])]
        raise InputError(f"prompt {pair.prompt_id!r}: scores {pair.score_A} and {pair.score_B} are too far apart")
    return differences_P


def _right(labels_P: Labels, differences_P: Floats, threshold: float | None) -> Floats:
    return is_agreed(labels_P, differences_P, threshold).astype(np.float64)


def _as_the_reference(pairs: Sequence[JudgedPair], half_point: float) -> ReferenceAccuracies:
    scored = [pair for pair in pairs if pair.score_A is not None and pair.score_B is not None]
    labels_P = np.array([np.nan if pair.label is None else pair.label for pair in scored], np.float64)
    differences_P = _differences(scored)
    return ReferenceAccuracies(
        pairs=len(scored),
        accuracy_with_ties=accuracy_with_ties_of_the_reference(labels_P, differences_P),
        accuracy_without_ties=accuracy_without_ties_of_the_reference(labels_P, differences_P),
        accuracy_half_point_rule=half_point,
    )
