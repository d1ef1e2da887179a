"""One try at one job, from the lease to the result."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import orjson

from cluster.errors import LeaseLostError, StoreUnavailableError
from cluster.store.jobs import Jobs, Lease, Outcome
from services.gateway.jobs_desk import JobsDesk
from services.gateway.problem_kinds import DEADLINE_PASSED, INTERNAL, kind
from services.gateway.problems import Problem

_log = logging.getLogger(__name__)

MOST_ATTEMPTS = 25
"""Servers that may stop or die under a job."""

GIVEN_UP = kind(
    "job_given_up", 500, "Given up", "Every server that worked on the job ended before it was done.",
    "Tell whoever runs the server the id of the job.",
)  # fmt: skip

Releases: TypeAlias = Callable[[str], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How often what is done. A lease lasts three renewals, so that one that is late costs nothing."""

    lease_s: float = 10.0
    renew_s: float = 3.0
    look_s: float = 1.0
    longest_backoff_s: float = 5.0
    progress_s: float = 0.5
    grace_s: float = 5.0


@dataclass(frozen=True, slots=True)
class Progress:
    """Items of a job: those that are finished, those of them that failed, all."""

    done: int
    failed: int
    total: int

    def is_news_after(self, earlier: Progress | None) -> bool:
        """Whether to tell it: an attempt makes some hundred events, however large the job is."""
        if earlier is None or self.total != earlier.total:
            return True
        return self.done > earlier.done and (self.done == self.total or 100 * (self.done - earlier.done) >= self.total)


class Work(Protocol):
    """What is done for a job."""

    async def __call__(self, lease: Lease, *, deadline: float, progress: Callable[[Progress], None]) -> bytes:
        """Works a job's request through; the result, as JSON. Ends at once when it is cancelled.

        Raises:
            Problem: the job fails with it.
            StoreUnavailableError: it is tried again.
        """
        ...


class Attempt:
    """Runs a job while its lease is kept. Whoever loses the lease stops and writes nothing."""

    def __init__(self, jobs: Jobs, desk: JobsDesk, lease: Lease, *, pace: Pace) -> None:
        self._jobs, self._desk, self._lease, self._pace = jobs, desk, lease, pace
        self._job_id = lease.job.id
        self._progress: Progress | None = None
        self._told: Progress | None = None
        self._telling = asyncio.Lock()

    async def run(self, work: Work, *, deadline: float) -> bool:
        """Whether the job is over: ended here, or by whoever canceled it. False: it is another server's."""
        self._desk.tell(self._job_id)
        keeping = asyncio.create_task(self._keep())
        ending = asyncio.create_task(self._work_and_finish(work, deadline))
        try:
            with self._desk.working_on(self._job_id, keeping.cancel):
                await asyncio.wait((keeping, ending), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (keeping, ending):
                task.cancel()
            await asyncio.gather(keeping, ending, return_exceptions=True)
            self._desk.tell(self._job_id)
        if not ending.cancelled():
            return ending.result()
        return await self._has_ended()

    async def _has_ended(self) -> bool:
        job = await self._jobs.get(self._job_id)
        return job is None or job.has_ended

    async def _keep(self) -> None:
        """Renews the lease and tells of the progress, until the lease is lost."""
        renew_at = time.monotonic() + self._pace.renew_s
        with suppress(LeaseLostError):
            while True:
                await asyncio.sleep(self._pace.progress_s)
                with suppress(StoreUnavailableError):  # the work goes on; only the end of it needs the store
                    await self._tell_progress()
                    if time.monotonic() >= renew_at:
                        await self._jobs.renew(self._lease, lease_s=self._pace.lease_s)
                        renew_at = time.monotonic() + self._pace.renew_s

    async def _tell_progress(self) -> None:
        async with self._telling:
            now = self._progress
            if now is None or not now.is_news_after(self._told):
                return
            event = {"done": now.done, "failed": now.failed, "total": now.total, "attempt": self._lease.job.attempt}
            await self._jobs.append(self._lease, orjson.dumps(event))
            self._told = now
        self._desk.tell(self._job_id)

    async def _work_and_finish(self, work: Work, deadline: float) -> bool:
        outcome, result = await self._outcome(work, deadline)
        return await self._finish(outcome, result)

    async def _outcome(self, work: Work, deadline: float) -> tuple[Outcome, bytes]:
        if self._lease.job.attempt > MOST_ATTEMPTS:
            return "failed", self._problem(Problem(GIVEN_UP))
        backoff_s = self._pace.look_s
        limit = asyncio.timeout(deadline + self._pace.grace_s - time.monotonic())
        try:
            async with limit:
                while True:
                    try:
                        return "succeeded", await work(self._lease, deadline=deadline, progress=self._note)
                    except StoreUnavailableError:
                        await asyncio.sleep(backoff_s)
                        backoff_s = min(2 * backoff_s, self._pace.longest_backoff_s)
        except Problem as problem:
            return "failed", self._problem(problem)
        except Exception:
            if limit.expired():
                return "failed", self._problem(Problem(DEADLINE_PASSED))
            _log.exception("job %s failed", self._job_id)
            return "failed", self._problem(Problem(INTERNAL))

    def _note(self, progress: Progress) -> None:
        self._progress = progress

    def _problem(self, problem: Problem) -> bytes:
        return orjson.dumps(problem.body(self._job_id))

    async def _finish(self, outcome: Outcome, result: bytes) -> bool:
        """Ends the job, however long the store is away. The same result twice changes nothing."""
        backoff_s = self._pace.look_s
        while True:
            try:
                await self._tell_progress()
                await self._jobs.finish(self._lease, outcome, result)
                return True
            except LeaseLostError:
                return await self._has_ended()
            except StoreUnavailableError:
                await asyncio.sleep(backoff_s)
                backoff_s = min(2 * backoff_s, self._pace.longest_backoff_s)
