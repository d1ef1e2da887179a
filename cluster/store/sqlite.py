"""The store in one SQLite file: nothing to install, for all processes of one machine.

A commit is on the disk when it is acknowledged (WAL, synchronous=FULL). One thread writes, one reads; the reader never
waits for the writer's fsync. The file must not lie on a network filesystem: WAL needs shared memory.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import TypeVar

from cluster.deadline import within
from cluster.errors import StoreUnavailableError
from cluster.store.lane import Lane
from cluster.store.records import Change, Clock, Decide
from policies.errors import InputError, StallError

T = TypeVar("T")

LAYOUT_VERSION = 2
LAYOUT = """
CREATE TABLE IF NOT EXISTS records (key TEXT PRIMARY KEY, value BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS entries (name TEXT, member TEXT, PRIMARY KEY (name, member)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS series (name TEXT, number INTEGER, value BLOB NOT NULL, PRIMARY KEY (name, number));
"""
PUT = "INSERT INTO records (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value"


class SqliteRecords:
    """Records, index entries and series, a table each."""

    def __init__(self, path: Path, writer: Lane, reader: Lane, *, deadline_s: float, clock: Clock) -> None:
        self._where = f"the store at {path}"
        self._writer, self._reader = writer, reader
        self._deadline_s, self._clock = deadline_s, clock

    async def change(self, keys: Sequence[str], decide: Decide[T]) -> T:
        def work(connection: sqlite3.Connection) -> T:
            change = decide(_values(connection, keys), self._clock())
            _write(connection, change)
            return change.answer

        return await self._wait(self._writer.submit(work), "a change")

    async def read(self, keys: Sequence[str]) -> list[bytes | None]:
        return await self._wait(self._reader.submit(lambda connection: _values(connection, keys)), "a read")

    async def scan(
        self, index: str, *, after: str = "", until: str = "", limit: int, newest_first: bool = False
    ) -> list[str]:
        order, beyond = ("DESC", "<") if newest_first else ("ASC", ">")
        conditions, values = ["name = ?"], [index]
        if after:
            conditions.append(f"member {beyond} ?")
            values.append(after)
        if until:
            conditions.append("member < ?")
            values.append(until)
        query = f"SELECT member FROM entries WHERE {' AND '.join(conditions)} ORDER BY member {order} LIMIT ?"

        def work(connection: sqlite3.Connection) -> list[str]:
            return [member for (member,) in connection.execute(query, (*values, limit))]

        return await self._wait(self._reader.submit(work), "a scan")

    async def count(self, index: str) -> int:
        def work(connection: sqlite3.Connection) -> int:
            (number,) = connection.execute("SELECT count(*) FROM entries WHERE name = ?", (index,)).fetchone()
            return int(number)

        return await self._wait(self._reader.submit(work), "a count")

    async def read_series(self, series: str, *, after: int = 0, limit: int) -> list[tuple[int, bytes]]:
        query = "SELECT number, value FROM series WHERE name = ? AND number > ? ORDER BY number LIMIT ?"

        def work(connection: sqlite3.Connection) -> list[tuple[int, bytes]]:
            return list(connection.execute(query, (series, after, limit)))

        return await self._wait(self._reader.submit(work), "a read of a series")

    async def now(self) -> float:
        return self._clock()

    async def ping(self) -> None:
        """The file can be read, and locked for writing."""
        await self._wait(self._reader.submit(lambda connection: _values(connection, [""])), "a ping (read)")
        await self._wait(self._writer.submit(lambda connection: None), "a ping (write)")

    async def close(self) -> None:
        for lane in (self._writer, self._reader):
            await asyncio.to_thread(lane.close, limit_s=self._deadline_s)

    async def _wait(self, future: Future[T], what: str) -> T:
        try:
            waiting = asyncio.wrap_future(future)
            return await within(waiting, seconds=self._deadline_s, waiting_for=f"{self._where}: {what}")
        except StallError as error:
            raise StoreUnavailableError(str(error)) from error


async def open_sqlite(path: Path, *, deadline_s: float, clock: Clock = time.time) -> SqliteRecords:
    """Opens the file, which is created for this user alone if it is not there."""

    def open_lanes() -> tuple[Lane, Lane]:
        name = f"the store at {path}"
        writer = Lane(_prepared(path, deadline_s), begin="BEGIN IMMEDIATE", name=name)
        return writer, Lane(_connect(path, deadline_s), begin="BEGIN", name=name)

    try:
        opening = asyncio.to_thread(open_lanes)
        writer, reader = await within(opening, seconds=2 * deadline_s, waiting_for=f"the store at {path}: opening it")
    except (OSError, sqlite3.Error, StallError) as error:
        if isinstance(error, StoreUnavailableError):
            raise
        raise StoreUnavailableError(f"the store at {path} cannot be opened: {error}") from error
    return SqliteRecords(path, writer, reader, deadline_s=deadline_s, clock=clock)


def _prepared(path: Path, deadline_s: float) -> sqlite3.Connection:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    connection = _connect(path, deadline_s)
    connection.execute("BEGIN IMMEDIATE")  # two processes may create it at once
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > LAYOUT_VERSION:
        connection.close()
        raise InputError(f"the store at {path} was written by a newer version (layout {version}); use that one")
    for statement in LAYOUT.strip().splitlines():
        connection.execute(statement)
    connection.execute(f"PRAGMA user_version = {LAYOUT_VERSION}")
    connection.execute("COMMIT")
    return connection


def _connect(path: Path, deadline_s: float) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=deadline_s, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    return connection


def _values(connection: sqlite3.Connection, keys: Sequence[str]) -> list[bytes | None]:
    marks = ",".join("?" * len(keys))
    found = dict(connection.execute(f"SELECT key, value FROM records WHERE key IN ({marks})", tuple(keys)))
    return [found.get(key) for key in keys]


def _write(connection: sqlite3.Connection, change: Change[object]) -> None:
    _each(connection, "DELETE FROM records WHERE key = ?", [(key,) for key in change.drop])
    _each(connection, PUT, change.put)
    for key, offset, data in change.splice:
        (old,) = _values(connection, [key])
        filled = (old or b"").ljust(offset, b"\0")
        connection.execute(PUT, (key, filled[:offset] + data + filled[offset + len(data) :]))
    _each(connection, "DELETE FROM entries WHERE name = ? AND member = ?", change.leave)
    _each(connection, "REPLACE INTO entries (name, member) VALUES (?, ?)", change.enter)
    _each(connection, "DELETE FROM series WHERE name = ?", [(name,) for name in change.erase])
    _each(connection, "INSERT INTO series (name, number, value) VALUES (?, ?, ?)", change.append)


def _each(connection: sqlite3.Connection, statement: str, rows: Sequence[tuple[object, ...]]) -> None:
    for row in rows:
        connection.execute(statement, row)
