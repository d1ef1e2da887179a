"""How much memory decoded frames may take while they wait for a model."""

from __future__ import annotations

import asyncio
import time
from types import TracebackType
from typing import Self

from services.gateway.problem_kinds import DEADLINE_PASSED
from services.gateway.problems import Problem


class FrameBudget:
    """What a video takes is known only once it is decoded. So a video may be decoded while there is any room at all,
    and the bound is passed by no more than what is decoded at the same time."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes, self._held = max_bytes, 0
        self._waiting: list[asyncio.Future[None]] = []

    def room(self, deadline: float) -> Room:
        """To be entered; that waits until there is room, or raises Problem at the deadline."""
        return Room(self, deadline)

    async def wait(self, deadline: float) -> None:
        while self._held >= self._max_bytes:
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(turn)
            try:
                async with asyncio.timeout(deadline - time.monotonic()):
                    await turn
            except TimeoutError:
                raise Problem(DEADLINE_PASSED, "The deadline passed before there was memory for the video.") from None
            finally:
                if turn in self._waiting:
                    self._waiting.remove(turn)

    def change(self, by: int) -> None:
        self._held += by
        if self._held < self._max_bytes and self._waiting:
            for turn in self._waiting:
                if not turn.done():
                    turn.set_result(None)
            self._waiting.clear()


class Room:
    """What one holder has of the budget, until it is left."""

    def __init__(self, budget: FrameBudget, deadline: float) -> None:
        self._budget, self._deadline, self._bytes = budget, deadline, 0

    async def __aenter__(self) -> Self:
        await self._budget.wait(self._deadline)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.hold(0)

    def hold(self, size: int) -> None:
        """From now on so many bytes."""
        self._budget.change(size - self._bytes)
        self._bytes = size
