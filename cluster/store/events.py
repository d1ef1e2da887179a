"""What happened in a run: swaps, resumes, skipped batches, alarms, notes. Ids count from 1, so a reader can go on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cluster.store.codec import Codec
from cluster.store.records import Numbered, Records
from cluster.store.run_items import Happened
from cluster.store.run_record import Run, events_series, load, run_key


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """`is_void`: a resumed run has taken the place of the update that it belongs to."""

    id: int
    attempt: int
    happened: Happened
    is_void: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stored:
    attempt: int
    happened: Happened


_CODEC = Codec(_Stored)


class Events:
    """Read by id: every event above the last one seen."""

    def __init__(self, records: Records) -> None:
        self._records = records

    async def read(self, run_id: str, *, after: int = 0, limit: int = 100) -> list[Event]:
        """Events of a run, oldest first; none for a run that does not exist."""
        (value,) = await self._records.read([run_key(run_id)])
        if (stored := load(run_id, value)) is None:
            return []
        series = events_series(run_id)
        found = await self._records.read_series(series, after=max(after, 0), limit=limit)
        return [_event(stored.run, number, _CODEC.load(series, data)) for number, data in found]


def numbered(run: Run, attempt: int, happened: Sequence[Happened]) -> list[Numbered]:
    """The entries of events that follow the last one of `run`."""
    first = run.last_event + 1
    return [
        Numbered(events_series(run.id), number, _CODEC.dump(_Stored(attempt=attempt, happened=each)))
        for number, each in enumerate(happened, start=first)
    ]


def _event(run: Run, number: int, kept: _Stored) -> Event:
    is_void = run.is_void(kept.attempt, kept.happened.update)
    return Event(id=number, attempt=kept.attempt, happened=kept.happened, is_void=is_void)
