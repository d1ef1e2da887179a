"""Jobs: work that was accepted and is done once, whatever dies meanwhile.

A job's state moves forward only: queued, running, then succeeded, failed or canceled. A worker holds a running job by a
lease. When the lease is over without a renewal, the next worker takes the job; `attempt` then counts up, and it is the
number that fences the former worker off: nothing can be written with an attempt that is not the latest.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from cluster.errors import LeaseLostError
from cluster.store.job_record import (
    DUE,
    ENDED,
    Job,
    Stored,
    due_member,
    due_parts,
    event_key,
    job_key,
    load,
    owner_index,
    request_key,
    result_key,
    state_event,
    step,
    traces,
)
from cluster.store.pages import Page, page_of
from cluster.store.records import STAMP_DIGITS, Change, Entry, Records, new_id, up_to
from cluster.store.sweep import sweep
from policies.errors import InputError

LOOKED_AT = 64  # due jobs at a time

Outcome: TypeAlias = Literal["succeeded", "failed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """The right to work on a job, until another worker takes it or someone cancels it."""

    job: Job
    request: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened to a job. Ids count from 1 without a gap; `data` is JSON."""

    id: int
    data: bytes


class Jobs:
    """What callers ask for and workers do. Requests, results and events are JSON that the store does not read."""

    def __init__(self, records: Records) -> None:
        self._records = records

    async def create(self, *, owner: str, request: bytes, job_id: str | None = None) -> Job:
        """Accepts a job. With an id (a request's `operation_id`), doing so again gives the job that there is."""
        chosen = job_id or new_id()

        def decide(values: Sequence[bytes | None], now: float) -> Change[Job]:
            if (stored := load(chosen, values[0])) is not None:
                if stored.job.owner != owner:
                    raise InputError(f"the job id {chosen!r} is taken")
                return Change(answer=stored.job)
            job = Job(id=chosen, owner=owner, state="queued", created_at=now)
            kept = [(request_key(chosen), request)]
            return step(None, job, due=due_member(job, now), event=state_event("queued"), put=kept)

        return await self._records.change([job_key(chosen)], decide)

    async def get(self, job_id: str) -> Job | None:
        """Whoever asks must be its owner: that is the caller's to check."""
        (value,) = await self._records.read([job_key(job_id)])
        stored = load(job_id, value)
        return stored.job if stored else None

    async def result(self, job_id: str) -> bytes | None:
        (value,) = await self._records.read([result_key(job_id)])
        return value

    async def page(self, owner: str, *, cursor: str | None = None, limit: int = 50) -> Page[Job]:
        """An owner's jobs, newest first."""
        return await page_of(self._records, owner_index(owner), _job, job_key, cursor=cursor, limit=limit)

    async def events(self, job_id: str, *, after: int = 0, limit: int = 100) -> list[Event]:
        """What happened after the event of that id, oldest first."""
        job = await self.get(job_id)
        numbers = range(max(after, 0) + 1, min((job.last_event if job else 0), max(after, 0) + limit) + 1)
        values = await self._records.read([event_key(job_id, number) for number in numbers]) if numbers else []
        return [Event(id=number, data=data) for number, data in zip(numbers, values, strict=True) if data is not None]

    async def cancel(self, job_id: str) -> Job | None:
        """Ends a job that has not ended. The answer says how it stands; None: there is no such job.

        A worker that has it notices with its next call, which raises LeaseLostError.
        """

        def decide(values: Sequence[bytes | None], now: float) -> Change[Job | None]:
            stored = load(job_id, values[0])
            if stored is None or stored.job.has_ended:
                return Change(answer=stored.job if stored else None)
            job = replace(stored.job, state="canceled", ended_at=now)
            return step(stored, job, due=None, event=state_event("canceled"))

        return await self._records.change([job_key(job_id)], decide)

    async def unfinished(self) -> int:
        """How many jobs are queued or running."""
        return await self._records.count(DUE)

    async def ahead_of(self, job: Job, *, at_most: int = 1000) -> int:
        """How many jobs are due before one that is queued, counted up to `at_most`."""
        return len(await self._records.scan(DUE, until=due_member(job, job.created_at), limit=at_most))

    async def take(self, *, lease_s: float, skip_owners: Collection[str] = ()) -> Lease | None:
        """The job that has been due for longest, of an owner who is not to be skipped; None: nothing is due."""
        until, after = up_to(await self._records.now()), ""
        while members := await self._records.scan(DUE, after=after, until=until, limit=LOOKED_AT):
            for member in members:
                job_id, owner = due_parts(member)
                if owner in skip_owners or (job := await self._claim(job_id, member, lease_s)) is None:
                    continue
                (request,) = await self._records.read([request_key(job_id)])
                if request is not None:
                    return Lease(job=job, request=request)
            after = members[-1]
        return None

    async def _claim(self, job_id: str, member: str, lease_s: float) -> Job | None:
        """One worker gets it: whoever finds that the entry is still the job's."""

        def decide(values: Sequence[bytes | None], now: float) -> Change[Job | None]:
            stored = load(job_id, values[0])
            if stored is None or stored.due != member:
                return Change(answer=None)
            job = replace(stored.job, state="running", attempt=stored.job.attempt + 1, started_at=now)
            event = state_event("running", attempt=job.attempt)
            return step(stored, job, due=due_member(job, now + lease_s), event=event)

        return await self._records.change([job_key(job_id)], decide)

    async def renew(self, lease: Lease, *, lease_s: float) -> None:
        """More time, from now. Raises LeaseLostError, as all that follow."""

        def decide(values: Sequence[bytes | None], now: float) -> Change[Job]:
            stored = _held(lease, values[0])
            return step(stored, stored.job, due=due_member(stored.job, now + lease_s))

        await self._records.change([job_key(lease.job.id)], decide)

    async def append(self, lease: Lease, data: bytes) -> int:
        """Adds an event; its id."""

        def decide(values: Sequence[bytes | None], now: float) -> Change[Job]:
            stored = _held(lease, values[0])
            return step(stored, stored.job, due=stored.due, event=data)

        return (await self._records.change([job_key(lease.job.id)], decide)).last_event

    async def hand_back(self, lease: Lease) -> None:
        """Another worker may have it at once. This one must have stopped."""

        def decide(values: Sequence[bytes | None], now: float) -> Change[Job]:
            stored = _held(lease, values[0])
            return step(stored, stored.job, due=due_member(stored.job, now))

        await self._records.change([job_key(lease.job.id)], decide)

    async def finish(self, lease: Lease, outcome: Outcome, result: bytes) -> Job:
        """Ends the job. Doing so again with the same lease and outcome changes nothing."""
        if outcome not in ("succeeded", "failed"):
            raise InputError(f"a job's outcome is succeeded or failed, not {outcome!r}")

        def decide(values: Sequence[bytes | None], now: float) -> Change[Job]:
            known = load(lease.job.id, values[0])
            if known is not None and (known.job.attempt, known.job.state) == (lease.job.attempt, outcome):
                return Change(answer=known.job)
            stored = _held(lease, values[0])
            job = replace(stored.job, state=outcome, ended_at=now)
            return step(stored, job, due=None, event=state_event(outcome), put=[(result_key(job.id), result)])

        return await self._records.change([job_key(lease.job.id)], decide)

    async def purge(self, *, older_than_s: float) -> int:
        """Forgets jobs that ended longer ago than that; how many."""
        until = up_to(await self._records.now() - older_than_s)
        return await sweep(self._records, ENDED, until, self._forget)

    async def _forget(self, member: str) -> None:
        job_id = member[STAMP_DIGITS:]

        def decide(values: Sequence[bytes | None], now: float) -> Change[None]:
            stored = load(job_id, values[0])
            keys, entries = traces(stored.job) if stored else ([], [Entry(ENDED, member)])
            return Change(answer=None, drop=keys, leave=entries)

        await self._records.change([job_key(job_id)], decide)


def _job(key: str, value: bytes) -> Job:
    stored = load(key.removeprefix(job_key("")), value)
    assert stored is not None
    return stored.job


def _held(lease: Lease, value: bytes | None) -> Stored:
    stored = load(lease.job.id, value)
    if stored is None:
        raise LeaseLostError(f"job {lease.job.id} is gone")
    if stored.job.has_ended or stored.job.attempt != lease.job.attempt:
        raise LeaseLostError(
            f"job {lease.job.id} is {stored.job.state} at attempt {stored.job.attempt}; "
            f"the lease was for attempt {lease.job.attempt}"
        )
    return stored
