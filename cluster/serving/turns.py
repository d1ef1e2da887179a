"""Who uses a replica's model next, when callers of the API and alignment runs both want it."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field


@dataclass(slots=True)
class _Queue:
    weight: float
    passed: float = 0.0  # seconds used, divided by the weight: whoever has the least goes next
    waiting: deque[asyncio.Future[None]] = field(default_factory=deque)


class Turns:
    """One turn at a time. Kinds of work that wait together share the time by their weights, measured in seconds of use.

    A kind that did not want the model for a while has no claim on the time it did not use. Of one loop.
    """

    def __init__(self, weights: Mapping[str, float], *, clock: Callable[[], float] = time.monotonic) -> None:
        self._queues = {kind: _Queue(weight) for kind, weight in weights.items()}
        self._clock = clock
        self._current: _Queue | None = None
        self._now = 0.0  # what the one whose turn it is, or was last, had passed at its start

    @asynccontextmanager
    async def turn(self, kind: str) -> AsyncIterator[None]:
        """Waits for a turn and holds it until the end of the block."""
        queue = self._queues[kind]
        await self._wait(queue)
        begun = self._clock()
        try:
            yield
        finally:
            queue.passed += (self._clock() - begun) / queue.weight
            self._pass_on()

    async def _wait(self, queue: _Queue) -> None:
        if queue is not self._current and not queue.waiting:
            queue.passed = max(queue.passed, self._now)
        if self._current is None:
            self._give(queue)
            return
        mine: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        queue.waiting.append(mine)
        try:
            await mine
        except asyncio.CancelledError:
            if mine in queue.waiting:
                queue.waiting.remove(mine)
            elif not mine.cancelled():  # it was given the turn in the same moment
                self._pass_on()
            raise

    def _give(self, queue: _Queue) -> None:
        self._current, self._now = queue, queue.passed

    def _pass_on(self) -> None:
        self._current = None
        for queue in self._queues.values():
            while queue.waiting and queue.waiting[0].done():
                queue.waiting.popleft()
        waiting = [queue for queue in self._queues.values() if queue.waiting]
        if waiting:
            queue = min(waiting, key=lambda queue: queue.passed)
            self._give(queue)
            queue.waiting.popleft().set_result(None)
