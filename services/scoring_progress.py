"""Live progress of scoring on stderr: a bar on a terminal, a line now and then elsewhere; bad videos as they come."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text

from policies.rewards.evaluation.scoring import ScoredVideos

PLAIN_INTERVAL_S = 10.0


class ScoringProgress(Protocol):
    """Takes the state after every video."""

    def __call__(self, scored: ScoredVideos) -> None: ...


class _News:
    """What to say about a state, and which bad videos nobody has been told of yet."""

    def __init__(self) -> None:
        self._told = 0
        self._started = time.monotonic()

    def warnings(self, scored: ScoredVideos) -> list[str]:
        new = list(scored.failures.items())[self._told :]
        self._told = len(scored.failures)
        return [f"warning: {describe_failure(path, reason)}" for path, reason in new]

    def describe(self, scored: ScoredVideos) -> str:
        fresh = len(scored.scores) - scored.reused
        rate = fresh / max(time.monotonic() - self._started, 1e-9)
        parts = [f"{rate:.1f} videos/s"] if fresh else []
        parts += [f"{scored.reused} scored before"] if scored.reused else []
        return ", ".join([*parts, *([f"{scored.failed} bad"] if scored.failed else [])])


def describe_failure(path: str, reason: str) -> str:
    """A bad video in one line that names it once."""
    return reason if path in reason else f"{path}: {reason}"


@contextmanager
def scoring_progress(total: int, stream: IO[str] | None = None) -> Iterator[ScoringProgress]:
    """The progress that suits a stream, stderr if none is given."""
    stream = sys.stderr if stream is None else stream
    with _bar(total, stream) if stream.isatty() else _lines(total, stream) as progress:
        yield progress


@contextmanager
def _bar(total: int, stream: IO[str]) -> Iterator[ScoringProgress]:
    console, news = Console(file=stream), _News()
    columns = (
        TextColumn("[bold]scoring"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[news]}", markup=False),
    )
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("scoring", total=total, news="")

        def show(scored: ScoredVideos) -> None:
            for warning in news.warnings(scored):
                console.print(Text(warning), soft_wrap=True)  # Text: brackets in a name are not markup
            bar.update(task, completed=scored.done, news=news.describe(scored))

        yield show


@contextmanager
def _lines(total: int, stream: IO[str]) -> Iterator[ScoringProgress]:
    news = _News()
    last_said = time.monotonic()

    def show(scored: ScoredVideos) -> None:
        nonlocal last_said
        for warning in news.warnings(scored):
            print(warning, file=stream, flush=True)
        if time.monotonic() - last_said >= PLAIN_INTERVAL_S or scored.done == total:
            last_said = time.monotonic()
            print(f"scored {scored.done}/{total}: {news.describe(scored)}", file=stream, flush=True)

    yield show
