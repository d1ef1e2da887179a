"""The one thread in which a replica loads its model and runs it, watched from outside."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from cluster.errors import ReplicaBrokenError

T = TypeVar("T")


@dataclass(slots=True)
class _Call:
    run: Callable[[], Any]
    future: asyncio.Future[Any]
    may_stall: bool


class ModelThread:
    """Runs one call after the other; its loop, the one that it is made in, stays free meanwhile.

    The thread is a daemon: a call that never returns must not keep the process from ending.
    """

    def __init__(self, *, stall_s: float) -> None:
        self._stall_s = stall_s
        self._loop = asyncio.get_running_loop()
        self._calls: queue.SimpleQueue[_Call] = queue.SimpleQueue()
        self._pending: set[asyncio.Future[Any]] = set()
        self._late: float | None = None  # when the call that runs now has hung
        self._broken: str | None = None
        threading.Thread(target=self._work, name="model", daemon=True).start()

    async def load(self, call: Callable[[], T]) -> T:
        """Like `run`, however long it takes."""
        return await self._put(call, may_stall=True)

    async def run(self, call: Callable[[], T]) -> T:
        """What the call returns or raises. Raises ReplicaBrokenError when the thread hangs.

        A call that raises it, too, is the last one.
        """
        return await self._put(call, may_stall=False)

    async def _put(self, call: Callable[[], T], *, may_stall: bool) -> T:
        self._refuse_if_broken()
        future: asyncio.Future[T] = self._loop.create_future()
        self._pending.add(future)
        self._calls.put(_Call(call, future, may_stall))
        try:
            return await future
        except ReplicaBrokenError as error:
            self._break(str(error))
            raise
        finally:
            self._pending.discard(future)

    def check(self) -> None:
        """Notices that a call takes too long; whoever waits for this thread is then told, too.

        Raises:
            ReplicaBrokenError: the thread will not work again.
        """
        late = self._late
        if late is not None and time.monotonic() > late:
            self._break(f"a forward has not ended within {self._stall_s:g} s")
        self._refuse_if_broken()

    def _refuse_if_broken(self) -> None:
        if self._broken is not None:
            raise ReplicaBrokenError(self._broken)

    def _break(self, reason: str) -> None:
        self._broken = reason
        for future in self._pending:
            if not future.done():
                future.set_exception(ReplicaBrokenError(reason))

    def _work(self) -> None:
        while True:
            self._do(self._calls.get())

    def _do(self, call: _Call) -> None:
        if call.future.cancelled():
            return
        self._late = None if call.may_stall else time.monotonic() + self._stall_s
        result: Any = None
        error: Exception | None = None
        try:
            result = call.run()
        except Exception as raised:
            error = raised
        except BaseException as raised:  # somebody's sys.exit
            error = RuntimeError(f"the model raised {type(raised).__name__}")
        self._late = None
        with contextlib.suppress(RuntimeError):  # the loop has ended, and with it whoever waited
            self._loop.call_soon_threadsafe(_settle, call.future, result, error)


def _settle(future: asyncio.Future[Any], result: Any, error: Exception | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)
