"""Keeps stdout for the lines that are promised there."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator

_printers: list[Callable[[str], None]] = []  # to the real stdout, of the blocks that we are in


@contextlib.contextmanager
def stdout_to_stderr() -> Iterator[None]:
    """Whatever is printed in the block goes to stderr: by Python, by libraries below it, and by child processes.

    Only `print_line` still reaches stdout.
    """
    if _printers:
        yield
        return
    sys.stdout.flush()
    original = sys.stdout
    with contextlib.redirect_stdout(sys.stderr), contextlib.ExitStack() as undo:
        undo.callback(_printers.clear)
        if not _is_real_stdout(sys.__stdout__):
            _printers.append(lambda text: print(text, file=original, flush=True))
            yield
            return
        saved = os.dup(1)
        os.dup2(2, 1)
        undo.callback(os.close, saved)
        undo.callback(os.dup2, saved, 1)
        _printers.append(lambda text: _write_all(saved, f"{text}\n".encode()))
        yield


def print_line(text: str) -> None:
    """Prints a line on stdout, at once, also within `stdout_to_stderr`."""
    if _printers:
        _printers[0](text)
    else:
        print(text, flush=True)


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _is_real_stdout(stream: object) -> bool:
    try:
        return stream is not None and stream.fileno() == 1  # type: ignore[attr-defined]
    except (OSError, ValueError, AttributeError):
        return False
