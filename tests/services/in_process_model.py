"""A `ScoringModel` over a real reward model in this process: what the gateway's tests score with, without Ray."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from weakref import WeakKeyDictionary

from cluster.serving.batch_scorer import BatchScorer
from cluster.serving.values import BatchResult, Failure, FailureCode, ModelFacts, ScoreItem
from policies.config import ShapesRewardConfig
from policies.rewards.model import load_reward_model
from services.scoring.model import Outcome, ScoringModel


class InProcessModel:
    """Each call is a batch of its own; nothing queues."""

    def __init__(self, scorer: BatchScorer) -> None:
        self._scorer = scorer
        self._locks: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = WeakKeyDictionary()
        self.is_ready, self.queued = True, 0

    @property
    def facts(self) -> ModelFacts:
        return self._scorer.facts

    async def score(
        self, items: Sequence[ScoreItem], *, caller: str, deadline: float, alone: bool = False
    ) -> list[Outcome]:
        begun = time.monotonic()
        async with self._locks.setdefault(asyncio.get_running_loop(), asyncio.Lock()):  # tests have a loop each
            waited = 1000 * (time.monotonic() - begun)
            if time.monotonic() > deadline:
                late = Failure(code=FailureCode.DEADLINE_PASSED, detail="The deadline passed before the item was run.")
                return [Outcome(result=late, facts=self.facts, queue_ms=waited, inference_ms=0.0) for _ in items]
            done: BatchResult = await asyncio.to_thread(self._scorer.run, items)
        return [
            Outcome(result=result, facts=done.facts, queue_ms=waited, inference_ms=done.inference_ms)
            for result in done.results
        ]


class InProcessModels:
    """Models by name; the first is the default."""

    def __init__(self, models: dict[str, ScoringModel]) -> None:
        self._models = models
        self.restarted: list[str] = []

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._models)

    @property
    def default(self) -> str:
        return next(iter(self._models))

    def get(self, name: str) -> ScoringModel | None:
        return self._models.get(name)

    async def restart(self, name: str) -> None:
        self.restarted.append(name)


def shapes_models() -> InProcessModels:
    """The bundled reward model, as `shapes`."""
    config = ShapesRewardConfig()
    scorer = BatchScorer(load_reward_model(config, device="cpu"), name="shapes", dtype=config.dtype)
    return InProcessModels({"shapes": InProcessModel(scorer)})
