"""Reward models whose cost is known, for a service under load. Their score is the brightness of one pixel."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cluster.serving.deployment import Deployment
from policies.errors import InputError
from tests.benchmarks.scoring_costs import COSTS_S, PIDS


class CostModel:
    """A forward of n videos takes a + b n seconds, and no processor."""

    own_scale = None
    dimensions = ("brightness",)
    files: Mapping[str, str] = {}
    name, revision = "cost", "1"

    def __init__(self, a: float, b: float) -> None:
        self._a, self._b = a, b

    def prepare(self, frames_FHWC: np.ndarray, prompt: str, fps: float) -> float:
        return float(frames_FHWC[0, 0, 0, 0]) / 255

    def cost(self, prepared: float) -> int:
        return 1

    def score(self, inputs: Sequence[float]) -> Tensor:
        if (seconds := self._a + self._b * len(inputs)) > 0:
            time.sleep(seconds)
        return torch.tensor(inputs)[:, None]

    def score_frames(self, frames_BFHWC: Tensor, prompts: Sequence[str], fps: float) -> Tensor:
        raise NotImplementedError("nobody learns from it")

    def overall(self, normalised: Mapping[str, float]) -> float:
        return normalised["brightness"]

    def stages(self, frames_FHWC: np.ndarray, prompt: str, fps: float) -> dict[str, Any]:
        return {}


def build(deployment: Deployment) -> CostModel:
    """The model of a deployment, in its replica."""
    if deployment.name not in COSTS_S:
        raise InputError(f"there is no benchmark model {deployment.name!r}; there are {', '.join(COSTS_S)}")
    if folder := os.environ.get(PIDS):
        (Path(folder) / f"{deployment.name}-{os.getpid()}").touch()
    return CostModel(*COSTS_S[deployment.name])
