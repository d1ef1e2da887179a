"""What an evaluation found, whatever it was made from, and evaluation of stored scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from policies.rewards.evaluation.bootstrap import Bootstrap
from policies.rewards.evaluation.judgements import JudgedPair, JudgedVideo
from policies.rewards.evaluation.layouts import OVERALL
from policies.rewards.evaluation.results import (
    Metrics,
    as_json,
    evaluate_pairs,
    evaluate_ranking,
    evaluate_ratings,
)
from policies.rewards.evaluation.stored_scores import read_stored_scores


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationConfig:
    """What is computed of scores and judgements."""

    bootstrap: Bootstrap
    recall_at: tuple[int, ...]
    with_reference: bool  # also what VideoAlign's own program would report


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredWith:
    """The reward model and the videos that it scored."""

    model: str
    revision: str
    files: Mapping[str, str]
    settings: Mapping[str, Any]
    videos: int
    reused: int  # scored by an earlier run
    failures: Mapping[str, str]  # reason by path
    failed: int  # videos without scores; a path with two prompts counts twice


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """Metrics by dimension, and what they were made from."""

    source: str  # the file with judgements
    config: EvaluationConfig
    dimensions: Mapping[str, tuple[Metrics, ...]]
    scored: ScoredWith | None = None  # None: stored scores
    pairs: Mapping[str, Sequence[JudgedPair]] = field(default_factory=dict)  # by dimension
    notes: tuple[str, ...] = ()

    def json(self) -> dict[str, Any]:
        """The object that --json prints; metrics of stored scores stand at its top."""
        found = {name: self._metrics(metrics) for name, metrics in self.dimensions.items()}
        bootstrap = {"draws": self.config.bootstrap.draws, "seed": self.config.bootstrap.seed, "drawn": "prompts"}
        if self.scored is None:
            return {**found[OVERALL], "scores": self.source, "bootstrap": bootstrap}
        scored = self.scored
        return {
            "reward": {
                "model": scored.model,
                "revision": scored.revision,
                "files": dict(scored.files),
                "settings": dict(scored.settings),
            },
            "data": self.source,
            "videos": {
                "total": scored.videos,
                "scored": scored.videos - scored.failed,
                "scored_before": scored.reused,
                "failed": [{"path": path, "reason": reason} for path, reason in scored.failures.items()],
            },
            "dimensions": found,
            "notes": list(self.notes),
            "bootstrap": bootstrap,
        }

    def _metrics(self, metrics: Sequence[Metrics]) -> dict[str, Any]:
        values = {key: value for each in metrics for key, value in as_json(each).items()}
        if not self.config.with_reference:
            values.pop("reference_procedure", None)
        return values


def evaluate_stored(path: Path, config: EvaluationConfig) -> Evaluation:
    """Evaluates a CSV file of stored scores. Raises InputError when it is none, or nothing in it can be used."""
    rows = read_stored_scores(path)
    pairs = [row for row in rows if isinstance(row, JudgedPair)]
    videos = [row for row in rows if isinstance(row, JudgedVideo)]
    metrics: list[Metrics] = []
    if pairs:
        metrics.append(evaluate_pairs(pairs, config.bootstrap))
    if videos and videos[0].is_best is not None:
        metrics.append(evaluate_ranking(videos, config.bootstrap, recall_ks=config.recall_at))
    if any(video.rating is not None for video in videos) or (videos and not metrics):
        metrics.append(evaluate_ratings(videos, config.bootstrap))
    return Evaluation(source=str(path), config=config, dimensions={OVERALL: tuple(metrics)}, pairs={OVERALL: pairs})
