import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.reindex import Indexed, reindex, reindex_run
from cluster.run_directory import RunDirectory
from cluster.store.open import open_store
from cluster.store.run_record import Run
from cluster.store.store import Store
from tests.cluster.store.conftest import QUICK
from tests.cluster.store.run_parts import curve
from tests.cluster.test_run_log import Ended, log_of, tell
from tests.cluster.written_run import (
    new_run,
    write_result,
    write_samples,
    write_update,
    write_validation,
    written_config,
)


@pytest.fixture
async def store(quick: Path) -> Store:
    return await open_store(quick / "again.sqlite")


@pytest.fixture
def quick() -> Iterator[Path]:
    import tempfile

    with tempfile.TemporaryDirectory(dir=QUICK) as name:
        yield Path(name)


def complete_run(parent: Path, run_id: str = "demo", updates: int = 12) -> RunDirectory:
    directory = new_run(parent, run_id)
    for update in range(updates):
        write_update(directory, update, loss=None if update == 7 else 0.5)
    write_validation(directory, 5)
    write_samples(directory, updates)
    write_result(directory, "completed")
    return directory


async def the_run(store: Store, run_id: str = "demo") -> Run:
    run = await store.runs.get(run_id)
    assert run is not None
    return run


async def contents(store: Store) -> dict[str, object]:
    """All that counts, without times and attempts."""
    found = await store.metrics.read("demo")
    assert found is not None
    return {
        "curves": {n: (c.updates.tolist(), c.values.tolist()) for n, c in found.curves.items()},
        "pairs": (await store.pairs.page("demo", limit=1000)).items,
        "samples": (await store.samples.page("demo")).items,
        "events": [
            (event.happened.what, event.happened.update)
            for event in await store.events.read("demo", limit=1000)
            if not event.is_void
        ],
        "state": (await the_run(store)).state,
    }


async def test_a_store_that_is_rebuilt_says_what_the_run_had_told(quick: Path, store: Store) -> None:
    directory = complete_run(quick / "runs")
    lines = list(directory.read_metrics())
    with log_of(str(quick / "live.sqlite")) as log:
        log.on_start(directory.path, written_config(), 0)
        for line in lines:
            log.on_update(line)
        log.on_validation({"policy_version": 5, "reward_mean": 0.75, "scores": {"VQ": 1.5}, "samples": 4})
        await asyncio.to_thread(log.on_end, Ended(directory.path))
    live = await open_store(quick / "live.sqlite")
    told = await contents(live)
    await live.close()
    for _ in range(2):
        assert await reindex(store, quick / "runs") == [Indexed(run_dir=directory.path, updates=12)]
        assert await contents(store) == told
    await store.close()


async def test_every_run_below_a_folder_is_found_and_a_damaged_one_is_named(quick: Path, store: Store) -> None:
    complete_run(quick / "runs", "one", 2)
    complete_run(quick / "runs" / "nested", "two", 3)
    (quick / "runs" / "bad").mkdir()
    (quick / "runs" / "bad" / "config.yaml").write_text("updates: no number")
    found = {each.run_dir.name: each for each in await reindex(store, quick / "runs")}
    assert (found["one"].updates, found["two"].updates) == (2, 3)
    assert found["bad"].refusal is not None and found.keys() == {"one", "two", "bad"}
    assert {run.id for run in (await store.runs.page()).items} == {"one", "two"}
    await store.close()


async def test_runs_are_listed_by_when_they_were_made(quick: Path, store: Store) -> None:
    for run_id, made_at in (("old", 1_000_000_000), ("new", 1_700_000_000)):
        directory = complete_run(quick, run_id, 1)
        os.utime(directory.path / "config.yaml", (made_at, made_at))
    await reindex(store, quick)
    assert [run.id for run in (await store.runs.page("local")).items] == ["new", "old"]
    await store.close()


async def test_a_killed_run_counts_as_stopped(quick: Path, store: Store) -> None:
    directory = new_run(quick)
    write_update(directory, 0)
    with directory.metrics.open("a") as file:
        file.write('{"update": 1, "loss"')
    assert await reindex_run(store, directory.path) == Indexed(run_dir=directory.path, updates=1)
    assert (await the_run(store)).state == "stopped" and await curve(store, "reward_mean") == {0: 0.0}
    await store.close()


async def test_a_run_that_was_indexed_can_be_resumed(quick: Path, store: Store) -> None:
    directory = new_run(quick)
    for update in range(4):
        write_update(directory, update)
    await reindex_run(store, directory.path)
    with log_of(str(quick / "again.sqlite")) as log:
        log.on_start(directory.path, written_config(), 4)
        await asyncio.to_thread(tell, log, directory, 4, 6)
        await asyncio.to_thread(log.on_end, Ended(directory.path))
    assert await curve(store, "reward_mean") == {update: update / 10 for update in range(6)}
    assert (await the_run(store)).state == "completed"
    await store.close()


async def test_an_id_in_two_places_is_refused_for_the_second(quick: Path, store: Store) -> None:
    complete_run(quick / "a", "demo", 2)
    complete_run(quick / "b", "demo", 3)
    first, second = await reindex(store, quick)
    assert first.updates == 2 and second.refusal is not None and "rename one of the two" in second.refusal
    assert sorted(await curve(store, "reward_mean")) == [0, 1]
    await store.close()
