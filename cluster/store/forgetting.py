"""Removing a run, or what earlier attempts of it left, a few records at a time."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

from cluster.store.columns import all_keys
from cluster.store.pairs import drop_pairs
from cluster.store.records import Change, Entry, Records, stamp
from cluster.store.run_record import ALL, Run, events_series, load, owner_index, run_key
from cluster.store.samples import sample_key, samples_index

AT_ONCE = 512


async def forget_run(records: Records, run_id: str) -> None:
    """All of it; the run itself last, so that a broken-off removal can be repeated."""
    (value,) = await records.read([run_key(run_id)])
    if (stored := load(run_id, value)) is None:
        return
    run = stored.run
    await _forget_attempts(records, run, run.attempt)
    await _forget_samples(records, run_id)
    member = stamp(run.created_at) + run_id
    gone: Change[None] = Change(
        answer=None,
        drop=[run_key(run_id)],
        leave=[Entry(ALL, member), Entry(owner_index(run.owner), member)],
        erase=[events_series(run_id)],
    )
    await records.change([run_key(run_id)], gone.regardless)


async def forget_attempts(records: Records, run_id: str) -> None:
    """Curves and pairs of all attempts but the current one."""
    (value,) = await records.read([run_key(run_id)])
    if (stored := load(run_id, value)) is not None:
        await _forget_attempts(records, stored.run, stored.run.attempt - 1)


async def _forget_attempts(records: Records, run: Run, last: int) -> None:
    await drop_pairs(records, run, last)
    for attempt in range(1, last + 1):
        keys = all_keys(run, attempt)
        while some := list(islice(keys, AT_ONCE)):
            await _drop(records, run.id, some, [])


async def _forget_samples(records: Records, run_id: str) -> None:
    index = samples_index(run_id)
    while members := await records.scan(index, limit=AT_ONCE):
        keys = [sample_key(run_id, member) for member in members]
        await _drop(records, run_id, keys, [Entry(index, member) for member in members])


async def _drop(records: Records, run_id: str, keys: Sequence[str], entries: Sequence[Entry]) -> None:
    change: Change[None] = Change(answer=None, drop=keys, leave=entries)
    await records.change([run_key(run_id)], change.regardless)
