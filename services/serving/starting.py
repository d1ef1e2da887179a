"""What a service says on stderr while it starts and stops."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

from rich.console import Console


class StartProgress:
    """A spinner on a terminal, a line for each stage elsewhere."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream
        self._console = Console(file=stream) if stream.isatty() else None
        self._begun = time.monotonic()

    @contextmanager
    def stage(self, text: str) -> Iterator[None]:
        """For as long as this lasts, `text` is what is being done."""
        if self._console is None:
            self.say(text)
            yield
            return
        with self._console.status(text, spinner="dots"):
            yield

    def say(self, text: str) -> None:
        """One line."""
        print(f"[{time.monotonic() - self._begun:5.1f} s] {text}", file=self._stream, flush=True)
