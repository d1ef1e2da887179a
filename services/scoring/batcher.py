"""Batches before the hop to a replica: what queued while the last batch ran goes together; nothing is waited for."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence

from cluster.serving.values import BatchResult, Failure, FailureCode, Forward, ModelFacts, ScoreItem
from services.scoring.counters import BatcherCounters, Pace, Rate
from services.scoring.fair_queue import FairQueue, Waiting
from services.scoring.model import Outcome, QueueFull
from services.serve_config import DeploymentConfig

OVERDUE_S = 5.0  # a forward ends by its deadline; one that has not by then is given up
LOOK_AGAIN_S = 0.25
SHORTEST_RETRY_S, LONGEST_RETRY_S = 1.0, 60.0
WORTH_A_HOP = 4
"""Items that are sent ahead of a full batch where the replica waits for hops rather than hops for it."""

_LATE = Failure(code=FailureCode.DEADLINE_PASSED, detail="The deadline passed before the item was run.")
_TOO_LONG = Failure(code=FailureCode.DEADLINE_PASSED, detail="The deadline passed while the item was being scored.")
_BROKEN = Failure(code=FailureCode.MODEL_FAILED, detail="The model failed on the batch that the item was in.")
_STOPPING = Failure(code=FailureCode.MODEL_UNAVAILABLE, detail="The model is being taken out of service.")

_log = logging.getLogger(__name__)


class _Request(Waiting):
    """Items that came together, until each has its outcome."""

    __slots__ = ("arrived", "future", "items", "missing", "outcomes")

    def __init__(
        self, items: Sequence[ScoreItem], *, caller: str, deadline: float, alone: bool, arrived: float
    ) -> None:
        super().__init__([item.pixels for item in items], caller=caller, deadline=deadline, alone=alone)
        self.items, self.arrived = items, arrived
        self.outcomes: list[Outcome | None] = [None] * len(items)
        self.missing = len(items)
        self.future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def put(self, index: int, outcome: Outcome) -> None:
        self.outcomes[index] = outcome
        self.missing -= 1
        if not self.missing:
            self.future.set_result(None)


class Batcher:
    """Many callers' items through one deployed model (a `ScoringModel`).

    As many batches run as there are replicas. A further one per replica is sent ahead only if it is full: the replica
    then goes on without waiting for the hop, and no batch is smaller for it. Idle replicas share what there is. What
    arrives in one turn of the event loop goes together.
    """

    def __init__(
        self, forward: Forward, config: DeploymentConfig, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._forward, self._config, self._clock = forward, config, clock
        self._queue: FairQueue[_Request] = FairQueue()
        self._running: set[asyncio.Task[None]] = set()
        self._rate = Rate()
        self._counters = BatcherCounters()
        self._pace = Pace()
        self._next_look: asyncio.TimerHandle | None = None
        self._is_starting = self._is_closing = False

    @property
    def facts(self) -> ModelFacts:
        return self._forward.facts

    @property
    def is_ready(self) -> bool:
        return not self._is_closing and self._forward.replicas > 0

    @property
    def queued(self) -> int:
        return self._queue.items

    @property
    def counters(self) -> BatcherCounters:
        """As they are now."""
        self._counters.queued, self._counters.running = self._queue.items, len(self._running)
        return self._counters

    async def score(
        self, items: Sequence[ScoreItem], *, caller: str, deadline: float, alone: bool = False
    ) -> list[Outcome]:
        """As `ScoringModel` says. A request is let in whole or not at all.

        One that is larger than a bound of the queue is let in while nothing else is counted against that bound.
        """
        now = self._clock()
        if self._is_closing:
            return self._none(items, _STOPPING)
        if deadline <= now:
            self._counters.dropped_late += len(items)
            return self._none(items, _LATE)
        self._refuse_if_full(caller, len(items), now)
        if not items:
            return []
        request = _Request(items, caller=caller, deadline=deadline, alone=alone, arrived=now)
        self._counters.accepted += len(items)
        self._queue.put(request)
        self._start_batches_soon()
        timer = asyncio.get_running_loop().call_later(deadline - now, self._expire, request)
        try:
            await request.future
        finally:
            timer.cancel()
            self._counters.dropped_cancelled += self._queue.remove(request)
        return [outcome for outcome in request.outcomes if outcome is not None]

    async def close(self, *, deadline: float) -> None:
        """Takes nothing more and finishes what it has; what is left at the deadline fails as unavailable."""
        self._is_closing = True
        if self._next_look is not None:
            self._next_look.cancel()
        self._start_batches()
        while self._running and (left_s := deadline - self._clock()) > 0:
            await asyncio.wait(self._running, timeout=left_s, return_when=asyncio.FIRST_COMPLETED)
        while self._queue.items:
            taken = self._queue.take(items=self._queue.items, pixels=self._queue.pixels, now=self._clock())
            for request in (*taken.late, *(request for request, _ in taken.shares)):
                self._give_up(request, _STOPPING, _STOPPING)
        for task in self._running:
            task.cancel()
        if self._running:
            await asyncio.wait(self._running, timeout=OVERDUE_S)

    def _refuse_if_full(self, caller: str, items: int, now: float) -> None:
        mine, everyones = self._queue.items_of(caller), self._queue.items
        if (ahead := _must_leave(mine, items, self._config.queue_items_per_caller)) > 0:
            self._counters.refused_by_caller += items
            ahead = min(ahead * self._queue.callers, everyones)  # the others take their turns meanwhile
            raise QueueFull(retry_after_s=self._retry_after_s(ahead, now), by_caller=True)
        if (ahead := _must_leave(everyones, items, self._config.queue_items)) > 0:
            self._counters.refused_by_queue += items
            raise QueueFull(retry_after_s=self._retry_after_s(ahead, now), by_caller=False)

    def _retry_after_s(self, ahead: int, now: float) -> float:
        """How long so many items take at the rate of late."""
        rate = self._rate.per_second(now, is_busy=bool(self._running))
        return min(max(ahead / rate, SHORTEST_RETRY_S), LONGEST_RETRY_S) if rate else SHORTEST_RETRY_S

    def _start_batches_soon(self) -> None:
        """Once all that came in this turn of the loop has queued."""
        if not self._is_starting:
            self._is_starting = True
            asyncio.get_running_loop().call_soon(self._start_batches)

    def _start_batches(self) -> None:
        self._is_starting = False
        while self._queue.items:
            replicas = max(self._forward.replicas, 1)  # without any, one batch waits in the forward for the first
            idle = replicas - len(self._running)
            if idle <= 0 and (idle <= -replicas or not self._may_go_ahead()):
                self._look_again()
                return
            share = -(-self._queue.items // max(idle, 1))
            self._start_batch(min(share, self._config.batch_items), is_ahead=idle <= 0)

    def _look_again(self) -> None:
        """Nobody says when there are more replicas than before."""
        if self._next_look is None:
            self._next_look = asyncio.get_running_loop().call_later(LOOK_AGAIN_S, self._look)

    def _look(self) -> None:
        self._next_look = None
        self._start_batches()

    def _may_go_ahead(self) -> bool:
        if self._pace.is_bound_by_hops and self._queue.items >= WORTH_A_HOP:
            return True
        return self._queue.items >= self._config.batch_items or self._queue.pixels >= self._config.batch_pixels

    def _start_batch(self, items: int, *, is_ahead: bool) -> None:
        now = self._clock()
        taken = self._queue.take(items=items, pixels=self._config.batch_pixels, now=now)
        for request in taken.late:
            self._expire(request)
        if not taken.shares:
            return
        if not self._running:
            self._rate.begin(now)
        task = asyncio.get_running_loop().create_task(self._run(taken.shares, is_ahead=is_ahead))
        self._running.add(task)

    async def _run(self, shares: list[tuple[_Request, int]], *, is_ahead: bool) -> None:
        begun = self._clock()
        done: BatchResult | None = None
        try:
            done = await self._attempt(shares, begun)
            if done is not None:
                self._pace.count(1000 * (self._clock() - begun), done.inference_ms, waited=is_ahead)
        finally:
            task = asyncio.current_task()
            assert task is not None
            self._running.discard(task)
            self._rate.count(len(shares), self._clock())
            try:
                self._start_batches()  # first, so that the replica does not wait for the answers to be written
            finally:
                self._settle(shares, done)

    async def _attempt(self, shares: list[tuple[_Request, int]], begun: float) -> BatchResult | None:
        items = [request.items[index] for request, index in shares]
        deadline = max(request.deadline for request, _ in shares)
        try:
            async with asyncio.timeout(deadline - begun + OVERDUE_S):
                done = await self._forward.run(items, deadline=deadline)
        except Exception:
            _log.exception("a batch of %d items failed", len(items))
            return None
        if len(done.results) != len(items):
            _log.error("a batch of %d items came back with %d results", len(items), len(done.results))
            return None
        return done

    def _settle(self, shares: list[tuple[_Request, int]], done: BatchResult | None) -> None:
        now, counters = self._clock(), self._counters
        inference_ms = done.inference_ms if done else 0.0
        facts = done.facts if done else self.facts
        failure = _STOPPING if self._is_closing else _BROKEN
        for position, (request, index) in enumerate(shares):
            waited_ms = max(1000 * (now - request.arrived) - inference_ms, 0.0)
            counters.waited_s += waited_ms / 1000
            if not request.future.done():
                result = done.results[position] if done else failure
                outcome = Outcome(result=result, facts=facts, queue_ms=waited_ms, inference_ms=inference_ms)
                request.put(index, outcome)
        counters.batches += 1
        counters.items += len(shares)
        counters.batch_sizes[len(shares)] += 1
        counters.failed_batches += done is None
        counters.inference_s += inference_ms / 1000

    def _expire(self, request: _Request) -> None:
        if not request.future.done():
            self._counters.dropped_late += len(request.sizes) - request.taken
            self._give_up(request, _LATE, _TOO_LONG)

    def _give_up(self, request: _Request, queued: Failure, running: Failure) -> None:
        """Whoever waits for the request gets what there is of it, and a failure for each other item."""
        self._queue.remove(request)
        waited_ms = 1000 * (self._clock() - request.arrived)
        for index, known in enumerate(request.outcomes):
            if known is None:
                failure = running if index < request.taken else queued
                request.put(index, Outcome(result=failure, facts=self.facts, queue_ms=waited_ms, inference_ms=0.0))

    def _none(self, items: Sequence[ScoreItem], failure: Failure) -> list[Outcome]:
        return [Outcome(result=failure, facts=self.facts, queue_ms=0.0, inference_ms=0.0) for _ in items]


def _must_leave(waiting: int, coming: int, bound: int) -> int:
    """How many must leave before others can come. Who comes to an empty queue comes in, however many."""
    return waiting - max(bound - coming, 0)
