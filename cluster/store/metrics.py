"""Curves of runs, read by name and by range of updates."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cluster.store.columns import Updates, Values, read_column
from cluster.store.records import Records
from cluster.store.run_record import Run, load, run_key
from cluster.store.thinning import FEWEST, thinned
from policies.errors import InputError


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Curve:
    """Points in the order of their updates; `total` is how many there were before they were thinned."""

    updates: Updates
    values: Values
    total: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Curves:
    """`run` says to which attempt they belong: when it changes, points that were read before may be void."""

    run: Run
    curves: Mapping[str, Curve]


class Metrics:
    """What a run wrote per update."""

    def __init__(self, records: Records) -> None:
        self._records = records

    async def read(
        self,
        run_id: str,
        names: Sequence[str] | None = None,
        *,
        since: int | None = None,
        step_range: tuple[int, int] | None = None,
        max_points: int | None = None,
    ) -> Curves | None:
        """Curves of a run; None: there is no such run. A name that it does not have is left out.

        Args:
            names: all, if none are given.
            since: only updates after this one.
            step_range: only updates from the first to the second, both included.
            max_points: of each curve; of every bucket of updates its lowest and its highest point stay.
        Raises:
            InputError: `max_points` is below 4.
        """
        if max_points is not None and max_points < FEWEST:
            raise InputError(f"max_points is {max_points}; a curve needs at least {FEWEST}")
        (value,) = await self._records.read([run_key(run_id)])
        if (stored := load(run_id, value)) is None:
            return None
        run = stored.run
        first, last = step_range or (0, run.last_update)
        first = max(first, 0 if since is None else since + 1)
        found = [name for name in dict.fromkeys(run.names if names is None else names) if name in run.names]
        columns = await asyncio.gather(
            *(read_column(self._records, run, name, first, min(last, run.last_update) + 1) for name in found)
        )
        return Curves(
            run=run, curves={name: _curve(*column, max_points) for name, column in zip(found, columns, strict=True)}
        )


def _curve(updates: Updates, values: Values, max_points: int | None) -> Curve:
    total = len(values)
    if max_points is not None:
        updates, values = thinned(updates, values, max_points)
    return Curve(updates=updates, values=values, total=total)
