"""How a job is kept: one record that every step rewrites, and records beside it that are written once.

    jobs/<id>            state, attempt, number of events
    jobs/<id>/request    what is to be done
    jobs/<id>/result     what came of it
    jobs/<id>/events/<n> what happened, one record each

An unfinished job has one entry in the index DUE, at the time from which a worker may take it: when it was created, or
when its lease is over. A finished one has an entry in ENDED. Every job is in the index of its owner.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from cluster.store.codec import Codec
from cluster.store.records import STAMP_DIGITS, Change, Entry, stamp

State: TypeAlias = Literal["queued", "running", "succeeded", "failed", "canceled"]

DUE = "jobs/due"
ENDED = "jobs/ended"


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """`attempt` counts how often a worker took it, `started_at` is the last time; `last_event` is its newest event."""

    id: str
    owner: str
    state: State
    created_at: float
    started_at: float | None = None
    ended_at: float | None = None
    attempt: int = 0
    last_event: int = 0

    @property
    def has_ended(self) -> bool:
        return self.ended_at is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """A job and its entry in DUE, which the next step has to remove."""

    job: Job
    due: str | None


_CODEC = Codec(Stored)


def load(job_id: str, value: bytes | None) -> Stored | None:
    return None if value is None else _CODEC.load(job_key(job_id), value)


def step(
    before: Stored | None,
    after: Job,
    *,
    due: str | None,
    event: bytes | None = None,
    put: Sequence[tuple[str, bytes]] = (),
) -> Change[Job]:
    """One step of a job: its record, its event if there is one, its place in the indexes. The answer is the job."""
    job = after if event is None else replace(after, last_event=after.last_event + 1)
    writes = [(job_key(job.id), _CODEC.dump(Stored(job=job, due=due))), *put]
    if event is not None:
        writes.append((event_key(job.id, job.last_event), event))
    entered = [Entry(DUE, due)] if due is not None else [Entry(ENDED, ended_member(job))]
    if before is None:
        entered.append(Entry(owner_index(job.owner), job.id))
    left = [Entry(DUE, before.due)] if before is not None and before.due is not None else []
    return Change(answer=job, put=writes, enter=entered, leave=left)


def state_event(state: State, **more: int) -> bytes:
    """Every change of state is an event, so that a job is the sum of its events."""
    facts: Mapping[str, object] = {"state": state, **more}
    return json.dumps(facts, separators=(",", ":")).encode()


def traces(job: Job) -> tuple[list[str], list[Entry]]:
    """All records and entries of a job that has ended."""
    events = [event_key(job.id, number) for number in range(1, job.last_event + 1)]
    keys = [job_key(job.id), request_key(job.id), result_key(job.id), *events]
    return keys, [Entry(ENDED, ended_member(job)), Entry(owner_index(job.owner), job.id)]


def due_member(job: Job, at: float) -> str:
    return f"{stamp(at)}{job.id}/{job.owner}"


def due_parts(member: str) -> tuple[str, str]:
    """(job id, owner) of an entry in DUE."""
    job_id, _, owner = member[STAMP_DIGITS:].partition("/")
    return job_id, owner


def ended_member(job: Job) -> str:
    assert job.ended_at is not None
    return stamp(job.ended_at) + job.id


def job_key(job_id: str) -> str:
    return f"jobs/{job_id}"


def request_key(job_id: str) -> str:
    return f"jobs/{job_id}/request"


def result_key(job_id: str) -> str:
    return f"jobs/{job_id}/result"


def event_key(job_id: str, number: int) -> str:
    return f"jobs/{job_id}/events/{number}"


def owner_index(owner: str) -> str:
    return f"jobs/of/{owner}"
