"""Reference values of the published reward models; `tests/goldens/README.md` says how they were made."""

from __future__ import annotations

import hashlib
import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from policies.rewards.frames import Clip, read_clip

FOLDER = Path(__file__).parents[2] / "goldens"
CLIPS = ("clip_a", "clip_b", "clip_c")


@cache
def expected(model: str) -> Any:
    """The part of expected.json about `videoreward` or `videoscore`."""
    return json.loads((FOLDER / "expected.json").read_text(encoding="utf-8"))[model]


@cache
def clip(name: str) -> Clip:
    return read_clip(FOLDER / "inputs" / f"{name}.mp4")


@cache
def prompt(name: str) -> str:
    prompts = json.loads((FOLDER / "inputs" / "prompts.json").read_text(encoding="utf-8"))
    return {entry["file"]: str(entry["prompt"]) for entry in prompts}[f"{name}.mp4"]


def sha256(array: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()
