"""How a run is kept: one record that every write renews, and beside it columns, pairs, samples and events.

A run that is resumed begins an *attempt* at the update after its newest commit; what earlier attempts wrote from there
on is void. Nothing is deleted for that: whatever is stored names its attempt, and where each attempt began is in the
record, so what counts is arithmetic.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

from cluster.store.codec import Codec

RunState: TypeAlias = Literal["queued", "running", "completed", "stopped", "failed", "canceled"]
EndState: TypeAlias = Literal["completed", "stopped", "failed", "canceled"]

SILENT_AFTER_S = 60.0  # a dozen heartbeats


class Segment(NamedTuple):
    """The updates from `first` to before `end` are those of this attempt."""

    attempt: int
    first: int
    end: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """`attempts` says at which update each attempt began; attempts count from 1. `last_update` is -1 before the first.

    `highest_update` is the highest that any attempt told of, void or not. `updates` is how many are planned.
    `dropped_points` were given up because the store was away for too long.
    """

    id: str
    owner: str
    state: RunState
    created_at: float
    run_dir: str | None = None
    config_digest: str | None = None
    forked_from: str | None = None
    updates: int | None = None
    started_at: float | None = None
    ended_at: float | None = None
    heartbeat_at: float | None = None
    stage: str | None = None
    attempts: tuple[int, ...] = ()
    last_update: int = -1
    last_event: int = 0
    highest_update: int = -1
    dropped_points: int = 0
    names: tuple[str, ...] = ()

    @property
    def attempt(self) -> int:
        """The current one; 0 before the run has begun."""
        return len(self.attempts)

    @property
    def has_ended(self) -> bool:
        return self.ended_at is not None

    def is_silent(self, now: float) -> bool:
        """Whether it says that it runs, but has not been heard of for a while: it was probably killed."""
        return self.state == "running" and self.heartbeat_at is not None and now - self.heartbeat_at > SILENT_AFTER_S

    def is_void(self, attempt: int, update: int | None) -> bool:
        """Whether a later attempt has taken the place of what an attempt wrote about an update."""
        return update is not None and any(first <= update for first in self.attempts[attempt:])

    def segments(self) -> list[Segment]:
        """Whose updates count, in the order of the updates."""
        found, end = [], self.last_update + 1
        for attempt in range(self.attempt, 0, -1):
            first = self.attempts[attempt - 1]
            if first < end:
                found.append(Segment(attempt, first, end))
                end = first
        return found[::-1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """`token` is the writer's who holds the run; `position` is the number of the last thing that it wrote."""

    run: Run
    token: str
    position: int = 0


_CODEC = Codec(Stored)

ALL = "runs"


def load(run_id: str, value: bytes | None) -> Stored | None:
    return None if value is None else _CODEC.load(run_key(run_id), value)


def dump(stored: Stored) -> tuple[str, bytes]:
    return run_key(stored.run.id), _CODEC.dump(stored)


def run_key(run_id: str) -> str:
    return f"runs/{run_id}"


def owner_index(owner: str) -> str:
    return f"runs/of/{owner}"


def events_series(run_id: str) -> str:
    return f"runs/{run_id}/events"
