"""Who is next: start-time fair queueing of pixels between callers.

Each caller's line has a tag, the work it was given so far, and the line with the least tag is next; what it gives moves
its tag on by its pixels. A line that was empty begins at the tag that is being served, so waiting earns nothing, and it
keeps a tag that is ahead, so coming back does not cancel what was taken. Unlike deficit round robin this has no quantum
to choose, which would be either too small for the largest video or too large for the others' patience.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Generic, TypeVar


class Waiting:
    """A request's items. The first `taken` went into batches; if it `is_gone`, the others never will."""

    __slots__ = ("alone", "caller", "deadline", "is_gone", "sizes", "taken")

    def __init__(self, sizes: Sequence[int], *, caller: str, deadline: float, alone: bool) -> None:
        self.sizes, self.caller, self.deadline, self.alone = sizes, caller, deadline, alone
        self.taken, self.is_gone = 0, False


W = TypeVar("W", bound=Waiting)


@dataclass(slots=True)
class Taken(Generic[W]):
    """A batch as (request, index of its item), and requests that were passed over because their deadline is gone."""

    shares: list[tuple[W, int]] = field(default_factory=list)
    late: list[W] = field(default_factory=list)


class _Line(Generic[W]):
    __slots__ = ("is_ready", "items", "requests", "tag")

    def __init__(self) -> None:
        self.requests: deque[W] = deque()
        self.items, self.tag, self.is_ready = 0, 0, False


class FairQueue(Generic[W]):
    """Lines of requests, one per caller. Within a line the order stays."""

    def __init__(self) -> None:
        self.items, self.pixels = 0, 0
        self._lines: dict[str, _Line[W]] = {}
        self._ready: list[tuple[int, int, _Line[W]]] = []
        self._turns = count()
        self._now = 0

    @property
    def callers(self) -> int:
        """How many wait, at most."""
        return len(self._ready)

    def items_of(self, caller: str) -> int:
        line = self._lines.get(caller)
        return line.items if line else 0

    def put(self, request: W) -> None:
        line = self._lines.get(request.caller)
        if line is None:
            line = self._lines[request.caller] = _Line()
        line.requests.append(request)
        self._count(line, len(request.sizes), sum(request.sizes))
        if not line.is_ready:
            line.is_ready, line.tag = True, max(line.tag, self._now)
            heapq.heappush(self._ready, (line.tag, next(self._turns), line))

    def remove(self, request: W) -> int:
        """Takes away what is left of a request; how many items that were."""
        left = len(request.sizes) - request.taken
        if request.is_gone or not left:
            return 0
        request.is_gone = True
        line = self._lines[request.caller]
        line.requests.remove(request)
        self._count(line, -left, -sum(request.sizes[request.taken :]))
        self._forget()
        return left

    def take(self, *, items: int, pixels: int, now: float) -> Taken[W]:
        """The next batch: at most that many items and pixels, but at least one item; a request `alone` by itself."""
        taken: Taken[W] = Taken()
        aside: list[tuple[int, int, _Line[W]]] = []
        room = pixels
        while self._ready and len(taken.shares) < items:
            tag, _, line = self._ready[0]
            if not line.requests:
                line.is_ready = False
                heapq.heappop(self._ready)
                continue
            request = line.requests[0]
            if request.deadline <= now:
                self.remove(request)
                taken.late.append(request)
                continue
            if request.alone and taken.shares:
                aside.append(heapq.heappop(self._ready))  # it is the first of the next batch; this one fills up without
                continue
            if request.alone:
                self._now = tag
                taken.shares = [(request, index) for index in range(len(request.sizes))]
                self._move_on(line, request, len(request.sizes), sum(request.sizes))
                break
            size = request.sizes[request.taken]
            if size > room and taken.shares:
                break
            self._now = tag
            room -= size
            taken.shares.append((request, request.taken))
            self._move_on(line, request, 1, size)
        for entry in aside:
            heapq.heappush(self._ready, entry)
        self._forget()
        return taken

    def _move_on(self, line: _Line[W], request: W, items: int, size: int) -> None:
        self._count(line, -items, -size)
        request.taken += items
        if request.taken == len(request.sizes):
            line.requests.popleft()
        line.tag += max(size, 1)
        if line.requests:
            heapq.heapreplace(self._ready, (line.tag, next(self._turns), line))
        else:
            line.is_ready = False
            heapq.heappop(self._ready)

    def _count(self, line: _Line[W], items: int, pixels: int) -> None:
        line.items += items
        self.items += items
        self.pixels += pixels

    def _forget(self) -> None:
        """Nobody competes in an empty queue, so nobody's past counts; and lines that are behind are as good as new."""
        if not self.items:
            self._lines.clear()
            self._ready.clear()
            self._now = 0
        elif len(self._lines) > 2 * len(self._ready) + 64:
            self._lines = {
                caller: line for caller, line in self._lines.items() if line.is_ready or line.tag > self._now
            }
