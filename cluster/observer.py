"""What a run tells whoever watches it: live progress, logs, a store. Light, no ray, no torch.

The controller calls these in its own process, in this order: `on_start`, then for each batch `on_update` (and
`on_validation`, `on_commit` where due), `on_end`. `on_stage` and `on_event` come at any time. An observer must return
quickly: the run waits for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from cluster.config import RunConfig

STAGES = ("startup", "calibrate", "train", "evaluate", "report")


class RunEnd(Protocol):
    """How a run ended; the controller's result has this shape."""

    @property
    def run_dir(self) -> Path: ...

    @property
    def ended(self) -> str:
        """completed, early_stop, stopped_sigint or stopped_sigterm."""
        ...

    @property
    def updates(self) -> int:
        """Updates that the weights have seen, those of earlier attempts included."""
        ...

    @property
    def seconds(self) -> Mapping[str, float]:
        """startup, generate, score, update, evaluate, total."""
        ...

    @property
    def test(self) -> Mapping[str, Any] | None:
        """The comparison on test prompts, where one was made."""
        ...


class RunObserver(Protocol):
    """Watches a run."""

    def on_start(self, run_dir: Path, config: RunConfig, first_update: int) -> None:
        """The run directory stands; `first_update` is above 0 when the run was resumed."""
        ...

    def on_stage(self, name: str) -> None:
        """One of STAGES begins."""
        ...

    def on_update(self, line: Mapping[str, Any]) -> None:
        """The object that was appended to metrics.jsonl."""
        ...

    def on_validation(self, line: Mapping[str, Any]) -> None:
        """The object that was appended to validation.jsonl."""
        ...

    def on_commit(self, update: int) -> None:
        """The checkpoint of this version is complete."""
        ...

    def on_event(self, text: str) -> None:
        """Something worth a line: a part that died and was replaced, a warning."""
        ...

    def on_end(self, result: RunEnd) -> None:
        """The run is over and its files are written."""
        ...


class SilentObserver:
    """Watches and says nothing; a base for observers that want only some of the calls."""

    def on_start(self, run_dir: Path, config: RunConfig, first_update: int) -> None: ...

    def on_stage(self, name: str) -> None: ...

    def on_update(self, line: Mapping[str, Any]) -> None: ...

    def on_validation(self, line: Mapping[str, Any]) -> None: ...

    def on_commit(self, update: int) -> None: ...

    def on_event(self, text: str) -> None: ...

    def on_end(self, result: RunEnd) -> None: ...


class Observers:
    """Several observers as one; each is told in turn."""

    def __init__(self, *each: RunObserver) -> None:
        self._each = each

    def on_start(self, run_dir: Path, config: RunConfig, first_update: int) -> None:
        for observer in self._each:
            observer.on_start(run_dir, config, first_update)

    def on_stage(self, name: str) -> None:
        for observer in self._each:
            observer.on_stage(name)

    def on_update(self, line: Mapping[str, Any]) -> None:
        for observer in self._each:
            observer.on_update(line)

    def on_validation(self, line: Mapping[str, Any]) -> None:
        for observer in self._each:
            observer.on_validation(line)

    def on_commit(self, update: int) -> None:
        for observer in self._each:
            observer.on_commit(update)

    def on_event(self, text: str) -> None:
        for observer in self._each:
            observer.on_event(text)

    def on_end(self, result: RunEnd) -> None:
        for observer in self._each:
            observer.on_end(result)
