"""From what a writer tells of a run to what the store writes: pure, one change for a batch, however mixed it is."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from cluster.store.columns import splices
from cluster.store.events import numbered
from cluster.store.pairs import pair_writes
from cluster.store.records import Change, Entry
from cluster.store.run_items import Dropped, Happened, Line, Pair, Sample, Stage, Told
from cluster.store.run_record import Run, Stored, dump
from cluster.store.samples import sample_writes

MOST_NAMES = 1000  # of curves; a run has some sixty


def written(stored: Stored, told: Sequence[Told], now: float) -> Change[Run]:
    """Writes what has not been written before, and that the run has been heard of."""
    fresh = [item for position, item in told if position > stored.position]
    lines = [item for item in fresh if isinstance(item, Line)]
    updates = [line.update for line in lines]
    happened = [item for item in fresh if isinstance(item, Happened)]
    pairs = [item for item in fresh if isinstance(item, Pair)]
    samples = [item for item in fresh if isinstance(item, Sample)]
    before = stored.run
    run = replace(
        before,
        heartbeat_at=now,
        stage=next((item.name for item in reversed(fresh) if isinstance(item, Stage)), before.stage),
        last_update=max([before.last_update, *updates]),
        highest_update=max([before.highest_update, *updates]),
        last_event=before.last_event + len(happened),
        dropped_points=before.dropped_points + sum(item.points for item in fresh if isinstance(item, Dropped)),
        names=_names(before.names, lines),
    )
    puts: list[tuple[str, bytes]] = []
    entries: list[Entry] = []
    for pair in pairs:
        put, entered = pair_writes(run, pair)
        puts.append(put)
        entries += entered
    for sample in samples:
        put, entry = sample_writes(run, sample)
        puts.append(put)
        entries.append(entry)
    position = max([stored.position, *(position for position, _ in told)])
    return Change(
        answer=run,
        put=[*puts, dump(replace(stored, run=run, position=position))],
        splice=splices(run, [_known(line, run.names) for line in lines]),
        enter=entries,
        append=numbered(before, run.attempt, happened),
    )


def _names(known: tuple[str, ...], lines: Sequence[Line]) -> tuple[str, ...]:
    """The names of curves in the order in which they first came; those beyond MOST_NAMES are not kept."""
    return tuple(dict.fromkeys([*known, *(name for line in lines for name in line.points)]))[:MOST_NAMES]


def _known(line: Line, names: Collection[str]) -> Line:
    if line.points.keys() <= set(names):
        return line
    return replace(line, points={name: value for name, value in line.points.items() if name in names})
