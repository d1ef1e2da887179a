"""Keeps stdout for the one JSON object that `--json` promises."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def stdout_to_stderr() -> Iterator[None]:
    """Whatever is printed in the block goes to stderr: by Python, by libraries below it, and by child processes."""
    sys.stdout.flush()
    with contextlib.redirect_stdout(sys.stderr):
        if not _is_real_stdout(sys.__stdout__):
            yield
            return
        saved = os.dup(1)
        os.dup2(2, 1)
        try:
            yield
        finally:
            os.dup2(saved, 1)
            os.close(saved)


def _is_real_stdout(stream: object) -> bool:
    try:
        return stream is not None and stream.fileno() == 1  # type: ignore[attr-defined]
    except (OSError, ValueError, AttributeError):
        return False
