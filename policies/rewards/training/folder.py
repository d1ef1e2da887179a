"""The folder of a training: its model in the published layout, what it needs to go on, and what was measured.

config.json        the resolved configuration
state/<step>/      newest checkpoints to go on from; a folder is there whole or not at all
metrics.jsonl      a line per logged step and per measurement; lines above the checkpoint are cut on resume
curve.png          held-out agreement and loss over steps
model_config.json, checkpoint-<step>/   the trained model, written at the end
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from policies.errors import InputError, WeightsMismatchError
from policies.learner_state import LearnerState
from policies.rewards.training.config import RewardTrainingConfig
from policies.rewards.videoreward.model_config import FILE as MODEL_CONFIG

CONFIG, METRICS, CURVE, STATE = "config.json", "metrics.jsonl", "curve.png", "state"
_KEPT = 2  # checkpoints: the newest, and one more should its disk fail
_FREE = (
    "output_dir",
    "torch_threads",
    "data.workers",
    "data.cache_mib",
)  # settings that change no number, or no config


class TrainingFolder:
    """A training's folder. Nothing is written before `begin`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def check(self, config: RewardTrainingConfig) -> None:
        """Raises InputError when the folder holds something else, or a training with other settings."""
        if not self.path.exists():
            return
        if not self.path.is_dir():
            raise InputError(f"output_dir: {self.path} is a file; name a folder")
        file = self.path / CONFIG
        if not file.is_file():
            if any(self.path.iterdir()):
                raise InputError(f"output_dir: {self.path} holds something else than a training; name another folder")
            return
        then, now = _flat(json.loads(file.read_text())), _flat(config.model_dump(mode="json"))
        changed = [key for key in sorted(then | now) if then.get(key) != now.get(key) and key not in _FREE]
        if changed:
            raise InputError(
                f"output_dir: {self.path} holds a training with other settings: "
                + ", ".join(f"{key} {then.get(key)!r}, now {now.get(key)!r}" for key in changed)
                + "; go on with the same ones, or name another folder"
            )

    def begin(self, config: RewardTrainingConfig) -> None:
        """Makes the folder and writes its configuration."""
        self.path.mkdir(parents=True, exist_ok=True)
        self.write_json(CONFIG, config.model_dump(mode="json"))

    def has_model(self, step: int) -> bool:
        """Whether the model after so many steps is written."""
        return (self.path / f"checkpoint-{step}").is_dir() and (self.path / MODEL_CONFIG).is_file()

    def newest_state(self) -> LearnerState | None:
        """The newest checkpoint that can be read, or None when there is none.

        Raises:
            WeightsMismatchError: there are some, and none can be read.
        """
        problem: WeightsMismatchError | None = None
        for step in reversed(self._states()):
            try:
                return LearnerState.read(self.path / STATE / step)
            except WeightsMismatchError as error:
                problem = problem or error
        if problem is not None:
            raise problem
        return None

    def save_state(self, step: int, state: LearnerState) -> None:
        """Writes a checkpoint, and removes those that are older than the one before it."""
        with replacing(self.path / STATE / f"{step:09d}") as folder:
            state.write(folder)
        for old in self._states()[:-_KEPT]:
            shutil.rmtree(self.path / STATE / old)

    def lines(self) -> list[dict[str, Any]]:
        """Everything measured so far. A last line that a kill has torn is left out."""
        file = self.path / METRICS
        whole, _, _ = file.read_text().rpartition("\n") if file.is_file() else ("", "", "")
        return [json.loads(line) for line in whole.splitlines()]

    def cut_lines(self, step: int) -> None:
        """Forgets what was measured after a step."""
        kept = [json.dumps(line) + "\n" for line in self.lines() if line["step"] <= step]
        self._write(METRICS, "".join(kept))

    def add_line(self, line: Mapping[str, Any]) -> None:
        """Appends to what was measured."""
        with (self.path / METRICS).open("a", encoding="utf-8") as file:
            file.write(json.dumps(line, allow_nan=False) + "\n")

    def write_json(self, name: str, value: Any) -> None:
        """Writes a JSON file whole or not at all."""
        self._write(name, json.dumps(value, indent=2, allow_nan=False) + "\n")

    def _states(self) -> list[str]:
        folder = self.path / STATE
        return sorted(path.name for path in folder.iterdir() if path.name.isdecimal()) if folder.is_dir() else []

    def _write(self, name: str, text: str) -> None:
        beside = self.path / f".{name}.{os.getpid()}"
        beside.write_text(text, encoding="utf-8")
        beside.replace(self.path / name)


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """A new folder to write into, which takes the target's place when the block ends without an error."""
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = target.with_name(f".{target.name}.{os.getpid()}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir()
    try:
        yield fresh
        shutil.rmtree(target, ignore_errors=True)
        fresh.rename(target)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            found |= _flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found
