"""A training that takes seconds: the base of the goldens, clips of a few frames, a table of pairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from policies.rewards.training.config import RewardTrainingConfig
from policies.rewards.training.loop import StepStats
from policies.video import write_video
from tests.policies.rewards import goldens

BASE = goldens.FOLDER / "videoreward" / "base"
RATES = ("learning_rate", "vision_learning_rate", "merger_learning_rate", "embedding_learning_rate")
ROWS = (  # path_A, path_B, prompt, VQ, MQ, TA
    ("0.mp4", "1.mp4", "a dog", "A", "same", "invalid"),
    ("2.mp4", "1.mp4", "a dog", "B", "B", "A"),
    ("0.mp4", "3.mp4", "a cat", "A", "A", "same"),
    ("3.mp4", "2.mp4", "a cat", "same", "B", "B"),
    ("1.mp4", "2.mp4", 'a, "bird"', "B", "A", "A"),
    ("0.mp4", "2.mp4", 'a, "bird"', "A", "A", "B"),
)


def write_clips(folder: Path, count: int = 4) -> None:
    """Noise of rising contrast, 4 to 7 frames of 32x32 at 8 frames/s."""
    rng = np.random.default_rng(0)
    for number in range(count):
        noise = rng.integers(0, 64 * (number + 1), (4 + number, 32, 32, 3))
        write_video(folder / f"{number}.mp4", noise.astype(np.uint8), fps=8)


def write_csv(path: Path, header: str, rows: Sequence[Sequence[object]]) -> Path:
    lines = [header, *(",".join('"' + str(field).replace('"', '""') + '"' for field in row) for row in rows)]
    path.write_text("\n".join(lines) + "\n")
    return path


def write_pairs(folder: Path, rows: Sequence[Sequence[object]] = ROWS) -> Path:
    return write_csv(folder / "pairs.csv", "path_A,path_B,prompt,VQ,MQ,TA", rows)


def config(folder: Path, **changes: Any) -> RewardTrainingConfig:
    """Of a training on the pairs in a folder; changes: whole sections' keys, as in tune={"llm": "full"}."""
    values: dict[str, Any] = {
        "model": {
            "base": str(BASE),
            "dtype": "float32",
            "prompt_template": "short_special",
            "min_frame_pixels": 28 * 28,
            "max_frame_pixels": 56 * 56,
        },
        "data": {"train": str(folder / "pairs.csv"), "heldout_share": 0.3},
        "output_dir": str(folder / "out"),
        "tune": {"lora": {"rank": 4, "alpha": 8}},
        "optimizer": dict.fromkeys(RATES, 0.01),
        "max_steps": 3,
        "batch_pairs": 2,
    }
    for key, value in changes.items():
        values[key] = values.get(key, {}) | value if isinstance(value, dict) else value
    return RewardTrainingConfig.model_validate(values)


class Recorder:
    """An observer that keeps what it is told."""

    def __init__(self) -> None:
        self.summary: Mapping[str, Any] = {}
        self.steps: list[StepStats] = []
        self.measured: list[Mapping[str, Any]] = []
        self.events: list[str] = []

    def on_start(self, summary: Mapping[str, Any]) -> None:
        self.summary = summary

    def on_step(self, stats: StepStats, steps: int) -> None:
        self.steps.append(stats)

    def on_measured(self, line: Mapping[str, Any]) -> None:
        self.measured.append(line)

    def on_event(self, text: str) -> None:
        self.events.append(text)
