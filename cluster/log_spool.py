"""What a run has said and the store has not taken yet: in memory, then on the disk, both bounded.

When it is full, the oldest points are given up first, and counted; events and pairs only when no points are left.
"""

from __future__ import annotations

import contextlib
import heapq
import sqlite3
import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

MIB = 2**20

LAYOUT = "CREATE TABLE IF NOT EXISTS entries (position INTEGER PRIMARY KEY, points INTEGER, body BLOB)"


class Entry(NamedTuple):
    """Something said; `points` is how many are lost with it. 0: no line; kept for as long as possible."""

    position: int
    points: int
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class SpoolLimits:
    """In bytes. An update is some 3 KB."""

    memory: int = 8 * MIB
    disk: int = 64 * MIB


class Spool:
    """`push` may be called by any thread and never waits for a disk; the rest is one thread's."""

    def __init__(self, file: Path, limits: SpoolLimits) -> None:
        self._file, self._limits = file, limits
        self._lock = threading.Lock()
        self._points: deque[Entry] = deque()
        self._kept: deque[Entry] = deque()
        self._bytes = 0
        self._taken = 0  # the last that is being sent
        self._unsure: list[Entry] = []  # given up while they were being sent: perhaps they arrived
        self._position = 0
        self._dropped_points = self._dropped_others = 0
        self._disk: sqlite3.Connection | None = None
        self._disk_bytes = 0

    def push(self, body: bytes, *, points: int = 0) -> None:
        """Adds something said."""
        with self._lock:
            self._position += 1
            (self._points if points else self._kept).append(Entry(self._position, points, body))
            self._bytes += len(body)
            while self._bytes > self._limits.memory:
                lost = (self._points or self._kept).popleft()
                self._bytes -= len(lost.body)
                if lost.position <= self._taken:
                    self._unsure.append(lost)
                else:
                    self._count(lost)

    def take(self, limit: int) -> list[Entry]:
        """The oldest entries, which stay until they are `done`."""
        if self._disk_bytes and self._disk is not None:
            query = "SELECT position, points, body FROM entries ORDER BY position LIMIT ?"
            return [Entry(*row) for row in self._disk.execute(query, (limit,))]
        with self._lock:
            for entry in self._unsure:
                self._count(entry)
            self._unsure = []
            in_order = heapq.merge(self._points, self._kept)
            found = [entry for entry, _ in zip(in_order, range(limit), strict=False)]
            self._taken = found[-1].position if found else 0
            return found

    def done(self, position: int) -> None:
        """Forgets all up to this one."""
        if self._disk_bytes and self._disk is not None:
            self._disk.execute("DELETE FROM entries WHERE position <= ?", (position,))
            self._measure()
        with self._lock:
            self._unsure = []
            for lane in (self._points, self._kept):
                while lane and lane[0].position <= position:
                    self._bytes -= len(lane.popleft().body)

    def spill(self) -> None:
        """Moves what lies in memory to the disk. Raises sqlite3.Error or OSError: then it stays in memory."""
        with self._lock:
            for entry in self._unsure:
                self._count(entry)
            self._unsure = []
            entries = [*heapq.merge(self._points, self._kept)]
        if not entries:
            return
        disk = self._open()
        with _transaction(disk):
            disk.executemany("INSERT OR REPLACE INTO entries VALUES (?, ?, ?)", entries)
        self._measure()
        with self._lock:
            moved = entries[-1].position
            for lane in (self._points, self._kept):
                while lane and lane[0].position <= moved:
                    self._bytes -= len(lane.popleft().body)
        self._fit(disk)

    def left_behind(self) -> list[bytes]:
        """What a former process wrote to the disk and could not send, without points. The file is empty afterwards."""
        if not self._file.is_file():
            return []
        disk = self._open()
        bodies = [body for (body,) in disk.execute("SELECT body FROM entries WHERE points = 0 ORDER BY position")]
        disk.execute("DELETE FROM entries")
        self._measure()
        return bodies

    def lost(self) -> tuple[int, int]:
        """(points, other things) that were given up since this was asked last."""
        with self._lock:
            lost = self._dropped_points, self._dropped_others
            self._dropped_points = self._dropped_others = 0
        return lost

    @property
    def is_empty(self) -> bool:
        return not (self._points or self._kept or self._disk_bytes)

    @property
    def is_half_full(self) -> bool:
        return 2 * self._bytes > self._limits.memory

    def close(self) -> None:
        """Lets go of the file, which goes when it holds nothing."""
        if self._disk is not None:
            self._disk.close()
            self._disk = None
            if not self._disk_bytes:
                self._file.unlink(missing_ok=True)

    def _open(self) -> sqlite3.Connection:
        if self._disk is None:
            self._disk = sqlite3.connect(self._file, isolation_level=None, timeout=1.0, check_same_thread=False)
            self._disk.execute("PRAGMA synchronous = OFF")  # what a power cut takes is in the run directory
            self._disk.execute(LAYOUT)
            self._measure()
        return self._disk

    def _measure(self) -> None:
        assert self._disk is not None
        (self._disk_bytes,) = self._disk.execute("SELECT coalesce(sum(length(body)), 0) FROM entries").fetchone()

    def _fit(self, disk: sqlite3.Connection) -> None:
        """Gives up the oldest, points first, until the rest fits."""
        excess = self._disk_bytes - self._limits.disk
        if excess <= 0:
            return
        lost = []
        for entry in disk.execute("SELECT position, points, body FROM entries ORDER BY points = 0, position"):
            lost.append(entry := Entry(*entry))
            if (excess := excess - len(entry.body)) <= 0:
                break
        with _transaction(disk):
            disk.executemany("DELETE FROM entries WHERE position = ?", [(entry.position,) for entry in lost])
        self._measure()
        with self._lock:
            for entry in lost:
                self._count(entry)

    def _count(self, entry: Entry) -> None:
        self._dropped_points += entry.points
        self._dropped_others += not entry.points


@contextlib.contextmanager
def _transaction(disk: sqlite3.Connection) -> Iterator[None]:
    disk.execute("BEGIN")
    try:
        yield
        disk.execute("COMMIT")
    except BaseException:
        with contextlib.suppress(sqlite3.Error):
            disk.execute("ROLLBACK")
        raise
