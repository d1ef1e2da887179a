"""A replica: one process with a loaded reward model, for callers of the API and for alignment runs alike."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from cluster.failures import describe, rebuild
from cluster.handles import Place, rows_of
from cluster.serving.loopback import listen_on_loopback_only
from cluster.serving.memory import settle
from cluster.serving.model_thread import ModelThread
from cluster.serving.turns import Turns
from cluster.serving.values import BatchResult, ScoreItem
from policies.errors import OnlineVPOError
from policies.types import Candidate, Scored

CALLERS, RUNS = "callers", "runs"
_LOAD_FAILED = "reward-model-not-loaded: "


class Work(Protocol):
    """What a replica's thread does with a loaded model."""

    def describe(self) -> dict[str, Any]:
        """Name, revision, files, dimensions and own scale of the model, as JSON can hold them."""
        ...

    def run(self, items: Sequence[ScoreItem]) -> BatchResult:
        """Scores a batch of whoever."""
        ...

    def score(self, candidates: Sequence[Candidate], fps: float) -> list[Scored]:
        """Scores a run's group as one forward of its own."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Replica:
    """What one replica is made with."""

    build: Callable[[], Work]
    callers_weight: float = 1
    runs_weight: float = 1
    stall_s: float = 300


class RewardReplica:
    """The Serve deployment. It counts as started once its model is loaded, so a rolling restart waits for that."""

    async def __init__(self, settings: Replica) -> None:  # type: ignore[misc]  # Serve awaits it
        listen_on_loopback_only()
        self._thread = ModelThread(stall_s=settings.stall_s)
        self._turns = Turns({CALLERS: settings.callers_weight, RUNS: settings.runs_weight})
        try:
            self._work = await self._thread.load(settings.build)
        except Exception as error:
            raise RuntimeError(_LOAD_FAILED + json.dumps(describe(error))) from None
        settle()

    async def describe(self) -> dict[str, Any]:
        """What is loaded, and the process id."""
        return {**self._work.describe(), "pid": os.getpid()}

    async def run_batch(self, items: Sequence[tuple[str, float]], frames: Sequence[np.ndarray], left_s: float) -> Batch:
        """Scores a batch: prompt and rate of each item, its frames, and how long until nobody wants it any more."""
        end = time.monotonic() + left_s
        batch = [
            ScoreItem(prompt=prompt, fps=fps, frames_FHWC=clip)
            for (prompt, fps), clip in zip(items, frames, strict=True)
        ]
        async with self._turns.turn(CALLERS):
            if time.monotonic() > end:
                return None
            return await self._thread.run(lambda: self._work.run(batch))

    async def score(
        self, candidates: Sequence[Candidate], places: Sequence[Place], fps: float, *arrays: np.ndarray
    ) -> dict[str, Any]:
        """Scores of a run's group, or the reason for none, in the order of the candidates.

        Their frames are rows of the arrays.
        """
        frames = rows_of(places, arrays)
        whole = [replace(candidate, frames=row) for candidate, row in zip(candidates, frames, strict=True)]
        async with self._turns.turn(RUNS):
            scored = await self._thread.run(lambda: self._work.score(whole, fps))
        return {"pid": os.getpid(), "results": [(dict(one.scores), one.failure) for one in scored]}

    async def check_health(self) -> None:
        """Serve asks every second; three failures and the replica is replaced."""
        self._thread.check()


Batch = BatchResult | None  # None: the time was over before its turn came


def load_error(part: str, message: str) -> OnlineVPOError | None:
    """What a replica's constructor raised, out of Serve's account of it; None when it holds no such thing."""
    _, found, rest = message.partition(_LOAD_FAILED)
    if not found:
        return None
    failure, _ = json.JSONDecoder().raw_decode(rest)
    return rebuild(part, failure)
