"""Live progress of a reward model's training on stderr: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import IO, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text

from policies.rewards.training.loop import StepStats

PLAIN_INTERVAL_S = 15.0
_SHOWN = {"accuracy": "accuracy", "tie_auc": "AUC of ties", "spearman": "rank correlation"}


def describe_start(summary: Mapping[str, Any]) -> list[str]:
    """What a training learns from and measures on, in lines."""
    counts = [
        f"{name} " + ", ".join(f"{count} {label}" for label, count in labels.items())
        for name, labels in summary["labels"].items()
    ]
    left_out = f", {summary['rows_left_out']} of them with nothing to learn from" if summary["rows_left_out"] else ""
    common = summary["heldout_prompts_in_training"]
    lines = [
        f"{summary['rows']} rows{left_out}: {'; '.join(counts)}",
        f"training on {summary['training_examples']} of {summary['training_prompts']} prompts, measuring on "
        f"{summary['heldout_examples']} of {summary['heldout_prompts']}; "
        f"{summary['trained_weights']:,} weights, {summary['steps']} steps",
    ]
    if common:
        lines.append(f"warning: {common} held-out prompts are in the training data too")
    if summary["first_step"]:
        lines.append(f"going on after step {summary['first_step']}")
    return lines


def describe_measured(heldout: Mapping[str, Mapping[str, Any]]) -> str:
    """`VQ 0.91, MQ 0.88, TA 0.86 accuracy; VQ 0.71, ... AUC of ties`."""
    parts = []
    for key, words in _SHOWN.items():
        found = [f"{name} {values[key]:.3f}" for name, values in heldout.items() if values.get(key) is not None]
        parts += [f"{', '.join(found)} {words}"] if found else []
    return "; ".join(parts)


class TrainingProgress:
    """A `TrainingObserver` that writes to a stream."""

    def __init__(self, stream: IO[str]) -> None:
        self._console = Console(file=stream, highlight=False)
        self._is_live = stream.isatty()
        self._bar = Progress(
            TextColumn("[bold]training"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[news]}", markup=False),
            console=self._console,
            disable=not self._is_live,
        )
        self._task = self._bar.add_task("training", total=None, news="")
        self._said = 0.0

    def __enter__(self) -> TrainingProgress:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def on_start(self, summary: Mapping[str, Any]) -> None:
        for line in describe_start(summary):
            self._say(line)
        self._bar.update(self._task, total=summary["steps"], completed=summary["first_step"])

    def on_step(self, stats: StepStats, steps: int) -> None:
        news = f"loss {stats.loss:.4f}"
        self._bar.update(self._task, completed=stats.step, news=news)
        is_due = time.monotonic() - self._said >= PLAIN_INTERVAL_S or stats.step == steps
        if not self._is_live and is_due:
            self._said = time.monotonic()
            self._say(f"step {stats.step}/{steps}: {news}")

    def on_measured(self, line: Mapping[str, Any]) -> None:
        self._say(f"held out after step {line['step']}: {describe_measured(line['heldout'])}")

    def on_event(self, text: str) -> None:
        self._say(f"warning: {text}")

    def _say(self, text: str) -> None:
        self._console.print(Text(text), soft_wrap=True)  # Text: brackets in a path are not markup
