"""A reward model as the gateway sees it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from cluster.serving.values import ModelFacts, Result, ScoreItem


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of one item, by which revision, and how long it waited and ran (its batch's time)."""

    result: Result
    facts: ModelFacts
    queue_ms: float
    inference_ms: float


class QueueFull(Exception):
    """Nothing was accepted. `by_caller`: it is this caller's share that is used up, not the whole queue."""

    def __init__(self, *, retry_after_s: float, by_caller: bool) -> None:
        super().__init__(f"the queue is full; try again in {retry_after_s:.0f} s")
        self.retry_after_s, self.by_caller = retry_after_s, by_caller


class ScoringModel(Protocol):
    """Many callers, one deployed model."""

    @property
    def facts(self) -> ModelFacts:
        """Of the newest revision that has answered."""
        ...

    @property
    def is_ready(self) -> bool:
        """Whether at least one replica could score now."""
        ...

    @property
    def queued(self) -> int:
        """Items that wait."""
        ...

    async def score(
        self, items: Sequence[ScoreItem], *, caller: str, deadline: float, alone: bool = False
    ) -> list[Outcome]:
        """Scores items, in their order; each comes back with scores or a Failure.

        Args:
            caller: whose they are; callers take turns.
            deadline: of time.monotonic(); an item that still waits then is dropped before it is run.
            alone: the items are one batch and nobody else's join it, so that their numbers do not depend on load.
        Raises:
            QueueFull: nothing of it was accepted.
        """
        ...


class Models(Protocol):
    """All models of a service, by the names of their deployments."""

    @property
    def names(self) -> tuple[str, ...]: ...

    @property
    def default(self) -> str:
        """The model of requests that name none."""
        ...

    def get(self, name: str) -> ScoringModel | None: ...

    async def restart(self, name: str) -> None:
        """Replaces the replicas of a model one after another while the others answer."""
        ...
