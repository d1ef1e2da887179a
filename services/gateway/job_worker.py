"""Work on jobs: takes them from the store, keeps their leases, ends each of them once."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from cluster.deadline import within
from cluster.errors import LeaseLostError, StoreUnavailableError
from cluster.store.jobs import Jobs, Lease
from policies.errors import StallError
from services.gateway.job_attempt import Attempt, Pace, Releases, Work
from services.gateway.jobs_desk import JobsDesk

_log = logging.getLogger(__name__)


class JobWorker:
    """One server's share of the work: so many jobs at a time, callers in turn."""

    def __init__(
        self,
        jobs: Jobs,
        desk: JobsDesk,
        work: Work,
        *,
        at_a_time: int,
        job_s: float,
        released: Releases,
        pace: Pace | None = None,
    ) -> None:
        """Prepares the work; nothing is taken before `start`.

        Args:
            work: what is done for one job.
            at_a_time: jobs that are worked on together.
            job_s: how long one may take.
            released: called with the id of a job that has ended.
        """
        self._jobs, self._desk, self._work, self._released = jobs, desk, work, released
        self._at_a_time, self._job_s, self._pace = at_a_time, job_s, pace or Pace()
        self._taking = asyncio.Lock()
        self._owners: Counter[str] = Counter()
        self._had_a_turn: set[str] = set()
        self._slots: list[asyncio.Task[None]] = []
        self._is_stopping = False

    @property
    def running(self) -> int:
        """Jobs that are worked on now."""
        return self._owners.total()

    def start(self) -> None:
        """Begins to take jobs."""
        self._slots = [asyncio.create_task(self._slot(), name=f"jobs {number}") for number in range(self._at_a_time)]

    async def stop(self, *, drain_s: float) -> None:
        """Takes no more jobs, waits for those that run, and hands back those that still do then."""
        self._is_stopping = True
        self._desk.arrivals.tell()
        if self._slots:
            _, left = await asyncio.wait(self._slots, timeout=drain_s)
            for slot in left:
                slot.cancel()
            await asyncio.gather(*self._slots, return_exceptions=True)

    async def _slot(self) -> None:
        backoff_s = self._pace.look_s
        while not self._is_stopping:
            try:
                async with self._turn() as lease:
                    if lease is not None:
                        await (self._hand_back(lease) if self._is_stopping else self._attend(lease))
                        continue
                await self._desk.arrivals.wait(self._pace.look_s)
                backoff_s = self._pace.look_s
            except StoreUnavailableError:
                backoff_s = min(2 * backoff_s, self._pace.longest_backoff_s)
                await asyncio.sleep(backoff_s)
            except Exception:  # one job's trouble must not end the work on all others
                _log.exception("a job's attempt failed in an unforeseen way")
                await asyncio.sleep(self._pace.look_s)

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[Lease | None]:
        """The next job, while it is worked on."""
        async with self._taking:  # or two slots would take the same caller's
            lease = await self._take()
            owner = None if lease is None else lease.job.owner
            if owner is not None:
                self._owners[owner] += 1
                self._had_a_turn.add(owner)
        try:
            yield lease
        finally:
            if owner is not None:
                self._owners[owner] -= 1
                self._owners += Counter()  # drops the zeros

    async def _take(self) -> Lease | None:
        """Of a caller who has had no turn in this round; of any whose job does not run here; of any."""
        skipped: set[str] | None = None
        for owners in (set(self._owners) | self._had_a_turn, set(self._owners), set[str]()):
            if owners != skipped:
                skipped = owners
                lease = await self._jobs.take(lease_s=self._pace.lease_s, skip_owners=owners)
                if lease is not None:
                    return lease
            self._had_a_turn.clear()
        return None

    async def _attend(self, lease: Lease) -> None:
        deadline = time.monotonic() + self._job_s
        attempt = Attempt(self._jobs, self._desk, lease, pace=self._pace)
        try:
            is_over = await attempt.run(self._work, deadline=deadline)
        except asyncio.CancelledError:
            await asyncio.shield(asyncio.ensure_future(self._hand_back(lease)))
            raise
        if is_over:
            with suppress(StoreUnavailableError):  # looked for again when old jobs are swept
                await self._released(lease.job.id)

    async def _hand_back(self, lease: Lease) -> None:
        with suppress(LeaseLostError, StoreUnavailableError, StallError):  # without it, the lease ends by itself
            handing = self._jobs.hand_back(lease)
            await within(handing, seconds=self._pace.lease_s, waiting_for="the store: handing a job back")
