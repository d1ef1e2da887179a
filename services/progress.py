"""Live progress of a run on stderr: a bar over reward band, implicit accuracy, videos/s and ETA on a terminal, a line
every few updates elsewhere."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

from cluster.config import RunConfig
from cluster.observer import RunEnd, SilentObserver
from services.outcome import duration

STAGE_TEXT = {
    "startup": "starting",
    "calibrate": "calibrating the reward",
    "train": "learning",
    "evaluate": "comparing before and after",
    "report": "writing the report",
}
WINDOW = 20  # updates that rates and ETA look back on: old enough to be steady, new enough to follow a change
PLAIN_LINES = 30  # about as many lines as a whole run writes when stderr is no terminal
PLAIN_INTERVAL_S = 30.0  # a slow run still says something this often


def describe_update(line: Mapping[str, Any]) -> str:
    """An update in one line: reward with band, implicit accuracy, loss."""
    parts = []
    if line.get("reward_mean") is not None:
        low, high = line.get("reward_p10"), line.get("reward_p90")
        band = f" [{low:+.2f}, {high:+.2f}]" if low is not None and high is not None else ""
        parts.append(f"reward {line['reward_mean']:+.3f}{band}")
    if line.get("implicit_accuracy") is not None:
        parts.append(f"implicit accuracy {line['implicit_accuracy']:.2f}")
    parts.append(f"loss {line['loss']:.4f}" if line.get("loss") is not None else "skipped: no group had a usable pair")
    return ", ".join(parts)


class Speed:
    """Videos per second and time left, over the last updates."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._marks: deque[tuple[float, int]] = deque(maxlen=WINDOW + 1)
        self._videos = 0

    def start(self) -> None:
        """The first update begins."""
        self._marks.clear()
        self._marks.append((self._clock(), self._videos))

    def add(self, videos: int) -> None:
        """An update is done."""
        self._videos += videos
        self._marks.append((self._clock(), self._videos))

    @property
    def seconds_per_update(self) -> float | None:
        if len(self._marks) < 2:
            return None
        return (self._marks[-1][0] - self._marks[0][0]) / (len(self._marks) - 1)

    @property
    def videos_per_second(self) -> float | None:
        if len(self._marks) < 2 or self._marks[-1][0] <= self._marks[0][0]:
            return None
        return (self._marks[-1][1] - self._marks[0][1]) / (self._marks[-1][0] - self._marks[0][0])

    def describe(self, updates_left: int) -> str:
        """`12.3 videos/s, 40 s left`."""
        rate, each = self.videos_per_second, self.seconds_per_update
        parts = [f"{rate:.1f} videos/s"] if rate is not None else []
        return ", ".join([*parts, *([f"{duration(each * updates_left)} left"] if each is not None else [])])


class PlainProgress(SilentObserver):
    """Lines of text, for logs and pipes."""

    def __init__(self, stream: IO[str], clock: Callable[[], float] = time.monotonic) -> None:
        self.run_dir: Path | None = None
        self._stream = stream
        self._clock = clock
        self._speed = Speed(clock)
        self._updates = 0
        self._videos_per_update = 0
        self._last_said = clock()

    def on_start(self, run_dir: Path, config: RunConfig, first_update: int) -> None:
        self.run_dir = run_dir
        self._updates = config.updates
        self._videos_per_update = config.prompts_per_update * config.sampling.candidates_per_prompt
        start = f", resumed at update {first_update}" if first_update else ""
        self._say(f"run {run_dir} ({config.updates} updates{start})")

    def on_stage(self, name: str) -> None:
        if name == "train":
            self._speed.start()
        self._say(STAGE_TEXT.get(name, name))

    def on_update(self, line: Mapping[str, Any]) -> None:
        done = int(line["update"]) + 1
        self._speed.add(int(line.get("videos") or self._videos_per_update))
        every = max(self._updates // PLAIN_LINES, 1)
        is_late = self._clock() - self._last_said >= PLAIN_INTERVAL_S
        if done % every == 0 or done == self._updates or is_late:
            speed = self._speed.describe(self._updates - done)
            self._say(f"update {done}/{self._updates}: {describe_update(line)}{', ' if speed else ''}{speed}")

    def on_validation(self, line: Mapping[str, Any]) -> None:
        self._say(describe_validation(line))

    def on_event(self, text: str) -> None:
        self._say(text)

    def close(self) -> None:
        """Nothing to give back."""

    def _say(self, text: str) -> None:
        self._last_said = self._clock()
        print(text, file=self._stream, flush=True)


class LiveProgress(SilentObserver):
    """A bar that stays in place, for terminals."""

    def __init__(self, console: Console) -> None:
        self.run_dir: Path | None = None
        self._console = console
        self._speed = Speed()
        self._updates = 0
        self._videos_per_update = 0
        self._progress = Progress(
            TextColumn("[bold]{task.description}", markup=True),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[speed]}", markup=False),
            console=console,
        )
        self._news = Text(overflow="ellipsis", no_wrap=True)
        self._live = Live(Group(self._progress, self._news), console=console)
        self._task: TaskID | None = None

    def on_start(self, run_dir: Path, config: RunConfig, first_update: int) -> None:
        self.run_dir = run_dir
        self._updates = config.updates
        self._videos_per_update = config.prompts_per_update * config.sampling.candidates_per_prompt
        self._console.print(Text(f"run {run_dir}"), soft_wrap=True)
        self._task = self._progress.add_task("starting", total=config.updates, completed=first_update, speed="")
        self._live.start()

    def on_stage(self, name: str) -> None:
        if name == "train":
            self._speed.start()
        self._show(description=STAGE_TEXT.get(name, name), speed="")

    def on_update(self, line: Mapping[str, Any]) -> None:
        done = int(line["update"]) + 1
        self._speed.add(int(line.get("videos") or self._videos_per_update))
        self._news.plain = describe_update(line)
        self._show(completed=done, speed=self._speed.describe(self._updates - done))

    def on_validation(self, line: Mapping[str, Any]) -> None:
        self._console.print(Text(describe_validation(line)))

    def on_event(self, text: str) -> None:
        self._console.print(Text(text), soft_wrap=True)  # Text: brackets in a message are not markup

    def on_end(self, result: RunEnd) -> None:
        self.close()

    def close(self) -> None:
        """Gives the terminal back; harmless twice."""
        self._live.stop()

    def _show(self, **changes: Any) -> None:
        if self._task is not None:
            self._progress.update(self._task, **changes)
            self._live.refresh()


def describe_validation(line: Mapping[str, Any]) -> str:
    """A validation in one line."""
    reward = line.get("reward_mean")
    shown = f"{reward:+.3f}" if reward is not None else "none"
    return f"validation of version {line.get('policy_version')}: reward {shown}"


def progress_for(stream: IO[str]) -> PlainProgress | LiveProgress:
    """The progress that suits a stream."""
    if not stream.isatty():
        return PlainProgress(stream)
    return LiveProgress(Console(file=stream))
