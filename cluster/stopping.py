"""What SIGINT and SIGTERM do to a run: the first asks for an orderly end, the second ends it now."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Self

EXIT_CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}


class StopSignals:
    """Within this context the first signal is remembered (and cancels `task` unless it is in the midst of updates,
    which look for `received` between two of them); the second leaves at once and lets the reaper clean up.

    The handlers are the process's own and not the event loop's, which would not see a second signal before a long
    computation in this process is over.
    """

    def __init__(self, task: asyncio.Task[Any]) -> None:
        self._task, self._loop = task, task.get_loop()
        self._previous: dict[signal.Signals, Any] = {}
        self.received: signal.Signals | None = None
        self.is_updating = False

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():  # Python lets no other thread handle signals
            self._previous = {number: signal.signal(number, self._on_signal) for number in EXIT_CODES}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None:
            os._exit(EXIT_CODES[signal.Signals(number)])
        self.received = signal.Signals(number)
        if not self.is_updating:
            self._loop.call_soon_threadsafe(self._task.cancel)
