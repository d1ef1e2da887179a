"""Reward models that cost a fixed time, fail or hang, for tests of what runs them. Importable by Ray workers."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cluster.serving.deployment import Deployment
from policies.errors import InputError


@dataclass(frozen=True)
class Toy:
    """Builds a `ToyModel`; the same settings are the same deployment.

    Args:
        seconds: what a forward costs.
        switch: a file; while it exists, the next model to load or run does what is written in it.
        revision: of the model; None: its process id, so that results say which replica they are from.
    """

    seconds: float = 0.0
    switch: str | None = None
    revision: str | None = None

    def __call__(self, deployment: Deployment) -> Any:
        if _said(self.switch) == "fail to load":
            raise InputError("reward.path: nowhere holds no model; name a folder that does")
        return ToyModel(self)


class ToyModel:
    """Scores a clip with its mean brightness."""

    name = "toy"
    dimensions = ("brightness",)
    files: Mapping[str, str] = {"model": "0"}
    own_scale = None

    def __init__(self, settings: Toy) -> None:
        self._settings, self.revision = settings, settings.revision or str(os.getpid())

    def prepare(self, frames_FHWC: np.ndarray, prompt: str, fps: float) -> np.ndarray:
        return frames_FHWC

    def score(self, inputs: Sequence[np.ndarray]) -> Any:
        import torch

        if _said(self._settings.switch) == "hang":
            Path(str(self._settings.switch)).unlink()
            time.sleep(3600)
        time.sleep(self._settings.seconds)
        return torch.tensor([[float(frames.mean())] for frames in inputs])

    def overall(self, normalised: Mapping[str, float]) -> float:
        return normalised["brightness"]


def _said(switch: str | None) -> str:
    return Path(switch).read_text() if switch and Path(switch).exists() else ""
