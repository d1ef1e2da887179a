"""What SIGINT and SIGTERM do to a run: the first asks for an orderly end, the second ends it now."""

from __future__ import annotations

import asyncio
import os
import signal
from types import TracebackType
from typing import Any, Self

EXIT_CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}


class StopSignals:
    """Within this context the first signal is remembered (and cancels `task` unless it is in the midst of updates,
    which look for `received` between two of them); the second leaves at once and lets the reaper clean up."""

    def __init__(self, task: asyncio.Task[Any]) -> None:
        self._task = task
        self.received: signal.Signals | None = None
        self.is_updating = False

    def __enter__(self) -> Self:
        loop = asyncio.get_running_loop()
        for number in EXIT_CODES:
            loop.add_signal_handler(number, self._on_signal, number)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        loop = asyncio.get_running_loop()
        for number in EXIT_CODES:
            loop.remove_signal_handler(number)

    def _on_signal(self, number: signal.Signals) -> None:
        if self.received is not None:
            os._exit(EXIT_CODES[number])
        self.received = number
        if not self.is_updating:
            self._task.cancel()
