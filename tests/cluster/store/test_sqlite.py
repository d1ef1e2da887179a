import asyncio
import sqlite3
import stat
import threading
import time
from pathlib import Path

import pytest

from cluster.errors import StoreUnavailableError
from cluster.store.lane import Lane
from cluster.store.open import open_store
from policies.errors import InputError


class Commits(sqlite3.Connection):
    """Counts them."""

    count = 0

    def execute(self, sql: str, *parameters: object) -> sqlite3.Cursor:  # type: ignore[override]
        self.count += sql == "COMMIT"
        return super().execute(sql, *parameters)  # type: ignore[arg-type]


def counted() -> Commits:
    return sqlite3.connect(":memory:", factory=Commits, isolation_level=None, check_same_thread=False)


def test_changes_that_arrive_during_a_commit_share_the_next() -> None:
    connection, gate = counted(), threading.Event()
    lane = Lane(connection, begin="BEGIN IMMEDIATE", name="the store")
    first = lane.submit(lambda c: gate.wait(10))
    while not first.running():
        time.sleep(0.001)
    others = [lane.submit(lambda c, n=n: n) for n in range(100)]
    gate.set()
    assert [future.result(10) for future in others] == list(range(100))
    assert connection.count == 2
    lane.close(limit_s=10)


def test_what_was_submitted_is_done_before_a_lane_closes() -> None:
    lane = Lane(counted(), begin="BEGIN", name="the store")
    futures = [lane.submit(lambda c: None) for _ in range(5)]
    lane.close(limit_s=10)
    assert all(future.done() for future in futures)
    with pytest.raises(StoreUnavailableError, match="is closed"):
        lane.submit(lambda c: None)


async def test_a_file_that_another_process_keeps_locked_is_unavailable_and_then_well_again(tmp_path: Path) -> None:
    store = await open_store(tmp_path / "s", deadline_s=0.2)
    locker = sqlite3.connect(tmp_path / "s", isolation_level=None)
    locker.execute("BEGIN IMMEDIATE")
    started = time.monotonic()
    with pytest.raises(StoreUnavailableError, match=r"the store at .*/s"):
        await store.jobs.create(owner="ada", request=b"{}")
    with pytest.raises(StoreUnavailableError):
        await store.ping()
    assert time.monotonic() - started < 5
    assert (await store.jobs.page("ada")).items == []
    locker.execute("ROLLBACK")
    locker.close()
    await asyncio.sleep(0.3)
    await store.ping()
    await store.jobs.create(owner="ada", request=b"{}")
    await store.close()


async def test_a_change_that_was_given_up_before_it_began_is_not_made(tmp_path: Path) -> None:
    store = await open_store(tmp_path / "s", deadline_s=0.3)
    release = threading.Event()
    busy = store.jobs._records._writer.submit(lambda connection: release.wait(10))  # type: ignore[attr-defined]
    while not busy.running():
        await asyncio.sleep(0.001)
    with pytest.raises(StoreUnavailableError, match=r"a change within 0\.3 s"):
        await store.jobs.create(owner="ada", request=b"{}")
    release.set()
    await asyncio.wrap_future(busy)
    await store.ping()
    assert (await store.jobs.page("ada")).items == []
    await store.close()


async def test_a_full_disk_is_an_error_and_changes_nothing(tmp_path: Path) -> None:
    store = await open_store(tmp_path / "s")
    await store.jobs.create(owner="ada", request=b"{}")
    writer = store.jobs._records._writer  # type: ignore[attr-defined]
    pages = await asyncio.wrap_future(writer.submit(lambda c: c.execute("PRAGMA max_page_count = 1").fetchone()[0]))
    with pytest.raises(StoreUnavailableError, match="full"):
        await store.jobs.create(owner="ada", request=b"x" * 4096 * (pages + 10))
    await asyncio.wrap_future(writer.submit(lambda c: c.execute("PRAGMA max_page_count = 10000").fetchone()))
    await store.jobs.create(owner="ada", request=b"x" * 100_000)
    assert len((await store.jobs.page("ada")).items) == 2
    await store.close()


async def test_the_file_is_for_its_owner_alone(tmp_path: Path) -> None:
    store = await open_store(tmp_path / "new" / "s")
    await store.jobs.create(owner="ada", request=b"{}")
    for file in (tmp_path / "new").iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    await store.close()


async def test_a_file_that_is_no_store_is_refused(tmp_path: Path) -> None:
    (tmp_path / "s").write_bytes(b"not a database, and long enough to be read as a header " * 10)
    with pytest.raises(StoreUnavailableError, match="cannot be opened: file is not a database"):
        await open_store(tmp_path / "s")
    with pytest.raises(StoreUnavailableError, match="cannot be opened"):
        await open_store(tmp_path)


async def test_a_store_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "s") as connection:
        connection.execute("PRAGMA user_version = 9")
    connection.close()
    with pytest.raises(InputError, match="newer version"):
        await open_store(tmp_path / "s")


async def test_a_damaged_record_is_an_error_that_tells_nothing_of_it(tmp_path: Path) -> None:
    store = await open_store(tmp_path / "s")
    job = await store.jobs.create(owner="ada", request=b"{}")
    with sqlite3.connect(tmp_path / "s") as connection:
        connection.execute("UPDATE records SET value = ? WHERE key = ?", (b'{"secret": 1}', f"jobs/{job.id}"))
    connection.close()
    with pytest.raises(StoreUnavailableError, match="cannot be read") as caught:
        await store.jobs.get(job.id)
    assert "secret" not in str(caught.value)
    await store.close()


@pytest.mark.parametrize("address", ["mysql://host/db", "http://x", "://x"])
async def test_another_kind_of_store_is_refused(address: str) -> None:
    with pytest.raises(InputError, match="a path or a URL with redis://"):
        await open_store(address)
