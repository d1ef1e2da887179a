"""A thread with one SQLite connection. Steps that arrive while it commits share its next commit, and so its fsync."""

from __future__ import annotations

import contextlib
import queue
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from cluster.errors import StoreUnavailableError
from policies.errors import OnlineVPOError

T = TypeVar("T")

LARGEST_GROUP = 256
LONGEST_QUEUE = 8192


@dataclass(frozen=True, slots=True, eq=False)
class _Step(Generic[T]):
    work: Callable[[sqlite3.Connection], T]
    future: Future[T]


class Lane:
    """`begin` is how its transactions start: BEGIN for reading, BEGIN IMMEDIATE for writing."""

    def __init__(self, connection: sqlite3.Connection, *, begin: str, name: str) -> None:
        self._connection, self._begin, self._name = connection, begin, name
        self._queue: queue.Queue[_Step[Any] | None] = queue.Queue(LONGEST_QUEUE)
        self._is_closing = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)  # a stuck disk must not stop an exit
        self._thread.start()

    def submit(self, work: Callable[[sqlite3.Connection], T]) -> Future[T]:
        """Work that is done inside a transaction; the future has its answer once that is committed."""
        if self._is_closing:
            raise StoreUnavailableError(f"{self._name} is closed")
        future: Future[T] = Future()
        try:
            self._queue.put_nowait(_Step(work, future))
        except queue.Full:
            raise StoreUnavailableError(f"{self._name} has {LONGEST_QUEUE} requests waiting") from None
        return future

    def close(self, *, limit_s: float) -> None:
        """Finishes what was submitted, then closes the connection. Blocks."""
        if not self._is_closing:
            self._is_closing = True
            with contextlib.suppress(queue.Full):
                self._queue.put(None, timeout=limit_s)
        self._thread.join(limit_s)

    def _run(self) -> None:
        is_last = False
        while not is_last:
            group, is_last = self._next_group()
            if group:
                self._serve(group)
        self._connection.close()

    def _next_group(self) -> tuple[list[_Step[Any]], bool]:
        """What waits, and whether nothing comes after."""
        group: list[_Step[Any]] = []
        step = self._queue.get()
        while step is not None:
            group.append(step)
            if len(group) == LARGEST_GROUP:
                return group, False
            try:
                step = self._queue.get_nowait()
            except queue.Empty:
                return group, False
        return group, True

    def _serve(self, group: list[_Step[Any]]) -> None:
        """Whoever has given up waiting before their turn is passed over."""
        outcomes: list[tuple[_Step[Any], Any, OnlineVPOError | None]] = []
        try:
            self._connection.execute(self._begin)
            for step in group:
                if step.future.set_running_or_notify_cancel():
                    outcomes.append((step, *self._attempt(step)))
            self._connection.execute("COMMIT")
        except Exception as error:
            with contextlib.suppress(sqlite3.Error):
                self._connection.execute("ROLLBACK")
            self._fail(group, error)
            return
        for step, answer, refusal in outcomes:
            if refusal is not None:
                step.future.set_exception(refusal)
            else:
                step.future.set_result(answer)

    def _fail(self, group: list[_Step[Any]], error: Exception) -> None:
        for step in group:
            if step.future.running() or (not step.future.cancelled() and step.future.set_running_or_notify_cancel()):
                failure = StoreUnavailableError(f"{self._name} failed: {error}")
                failure.__cause__ = error
                step.future.set_exception(failure)

    def _attempt(self, step: _Step[T]) -> tuple[T | None, OnlineVPOError | None]:
        """A refusal concerns its step alone: a decision refuses before anything is written."""
        try:
            return step.work(self._connection), None
        except OnlineVPOError as refusal:
            return None, refusal
