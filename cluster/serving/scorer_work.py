"""What a run's own replica loads in its own process, and does in its thread."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from cluster.config import RunConfig
from cluster.factories import RewardScorer
from cluster.serving.values import BatchResult, ScoreItem
from policies.types import Candidate, Scored


class ScorerWork:
    """The scorer that a run brings, for this run alone."""

    def __init__(self, config: RunConfig, build: Callable[[RunConfig], RewardScorer]) -> None:
        self._scorer = build(config)
        self._loop = asyncio.new_event_loop()

    def describe(self) -> dict[str, Any]:
        """What the scorer says it scores with."""
        return self._scorer.describe()

    def run(self, items: Sequence[ScoreItem]) -> BatchResult:
        """Nobody but the run knows this replica."""
        raise NotImplementedError("a run's own replica scores groups only")

    def score(self, candidates: Sequence[Candidate], fps: float) -> list[Scored]:
        """Scores a group; the scorer was built for the run's frame rate."""
        return self._loop.run_until_complete(self._scorer.score(candidates))
