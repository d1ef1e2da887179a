"""Joins scores of videos with what people said about them: metrics for each dimension and overall."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from policies.errors import InputError
from policies.rewards.evaluation.bootstrap import Bootstrap
from policies.rewards.evaluation.judgements import JudgedPair, JudgedVideo
from policies.rewards.evaluation.layouts import OVERALL, PairData, PromptedVideo, VideoData
from policies.rewards.evaluation.results import (
    RECALL_AT,
    Metrics,
    evaluate_pairs,
    evaluate_ranking,
    evaluate_ratings,
)
from policies.rewards.evaluation.score_file import VideoScores

Scores = Mapping[PromptedVideo, VideoScores]


@dataclass(frozen=True, slots=True, kw_only=True)
class DataResults:
    """Metrics by dimension (`Overall` is the model's one number), and why a dimension has none."""

    dimensions: Mapping[str, tuple[Metrics, ...]]
    notes: tuple[str, ...]


def evaluate_data(
    data: PairData | VideoData, scores: Scores, bootstrap: Bootstrap, *, recall_ks: Sequence[int] = RECALL_AT
) -> DataResults:
    """Metrics of judged videos. Scores are those on the model's own scale; a video without scores is missing.

    Best-of-n metrics are there for every dimension, since any of them may be used to choose.

    Raises:
        InputError: no dimension has anything that can be used.
    """
    found: dict[str, tuple[Metrics, ...]] = {}
    notes: list[str] = []
    for dimension, evaluate in _evaluations(data, scores, bootstrap, recall_ks):
        try:
            found[dimension] = (*found.get(dimension, ()), evaluate())
        except InputError as error:
            notes.append(f"{dimension}: {error}")
    if not found:
        raise InputError("; ".join(notes))
    return DataResults(dimensions=found, notes=tuple(notes))


def judged_pairs(data: PairData, scores: Scores, dimension: str) -> list[JudgedPair]:
    """The pairs of a dimension with their scores."""
    return [
        JudgedPair(
            prompt_id=row.prompt_id,
            label=row.labels[dimension],
            score_A=_score(scores, row.first, dimension),
            score_B=_score(scores, row.second, dimension),
        )
        for row in data.rows
    ]


def _evaluations(
    data: PairData | VideoData, scores: Scores, bootstrap: Bootstrap, recall_ks: Sequence[int]
) -> Iterator[tuple[str, Callable[[], Metrics]]]:
    if isinstance(data, PairData):
        for dimension in data.judged:
            yield dimension, partial(evaluate_pairs, judged_pairs(data, scores, dimension), bootstrap)
        return
    for dimension in data.judged:
        yield dimension, partial(evaluate_ratings, _judged_videos(data, scores, dimension), bootstrap)
    if data.has_best:
        of_model = next(iter(scores.values())).normalised if scores else ()
        for dimension in (*of_model, OVERALL):
            videos = _judged_videos(data, scores, dimension)
            yield dimension, partial(evaluate_ranking, videos, bootstrap, recall_ks=recall_ks)


def _judged_videos(data: VideoData, scores: Scores, dimension: str) -> list[JudgedVideo]:
    return [
        JudgedVideo(
            prompt_id=row.prompt_id,
            score=_score(scores, row.video, dimension),
            is_best=row.is_best,
            rating=row.ratings.get(dimension),
        )
        for row in data.rows
    ]


def _score(scores: Scores, video: PromptedVideo, dimension: str) -> float | None:
    found = scores.get(video)
    if found is None:
        return None
    return found.overall if dimension == OVERALL else found.normalised[dimension]
