"""A deployed model of fixed cost: replicas that each run one batch at a time, in whatever time the loop keeps."""

import asyncio
from collections.abc import Sequence

import numpy as np

from cluster.serving.values import BatchResult, ModelFacts, Result, ScoreItem, Scores

FACTS = ModelFacts(name="fake", model="fake", revision="1", files={}, dimensions=("d",), dtype="float32")


def item(number: int, *, pixels: int = 1) -> ScoreItem:
    """Its score will be its number."""
    return ScoreItem(prompt=str(number), frames_FHWC=np.zeros((1, 1, pixels, 3), np.uint8), fps=8.0)


def items(numbers: range) -> list[ScoreItem]:
    return [item(number) for number in numbers]


def scored(one: ScoreItem) -> Result:
    number = float(one.prompt)
    return Scores(raw={"d": number}, normalised={"d": number}, reward=number)


class FakeForward:
    """A batch of n items takes a + b n seconds. `batches` are the numbers of the items, by start of the calls."""

    facts = FACTS

    def __init__(self, *, a: float = 1.0, b: float = 0.0, replicas: int = 1) -> None:
        self.a, self.b, self.replicas = a, b, replicas
        self.batches: list[list[int]] = []
        self.deadlines: list[float] = []
        self.in_flight = self.most_in_flight = 0
        self._places = asyncio.Semaphore(replicas)

    async def run(self, items: Sequence[ScoreItem], *, deadline: float) -> BatchResult:
        self.batches.append([int(one.prompt) for one in items])
        self.deadlines.append(deadline)
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            async with self._places:
                return await self.compute(items)
        finally:
            self.in_flight -= 1

    async def compute(self, items: Sequence[ScoreItem]) -> BatchResult:
        took = self.a + self.b * len(items)
        await asyncio.sleep(took)
        return BatchResult(results=tuple(map(scored, items)), facts=FACTS, inference_ms=1000 * took)
