"""A whole reward model in a few lines: what a new one takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch

from policies.calibration import Calibration
from policies.config import RewardModelConfig


class BrightnessConfig(RewardModelConfig):
    """The config class of a reward model that is made up here."""

    model: Literal["brightness"] = "brightness"
    offset: float = 0.0


class Brightness:
    """A whole reward model: mean brightness."""

    name, revision, dimensions = "brightness", "1", ("mean",)
    files: Mapping[str, str] = {}
    own_scale: Calibration | None = Calibration(mean={"mean": 0.5}, std={"mean": 0.1})

    def __init__(self, config: BrightnessConfig) -> None:
        self._offset = config.offset

    @classmethod
    def load(cls, config: BrightnessConfig, device: str) -> Brightness:
        return cls(config)

    def prepare(self, frames_FHWC: np.ndarray, prompt: str, fps: float) -> torch.Tensor:
        return torch.tensor(frames_FHWC) / 255

    def cost(self, prepared: torch.Tensor) -> int:
        return prepared[..., 0].numel()

    def score(self, inputs: Sequence[torch.Tensor]) -> torch.Tensor:
        return torch.stack([frames.mean()[None] + self._offset for frames in inputs])

    def score_frames(self, frames_BFHWC: torch.Tensor, prompts: Sequence[str], fps: float) -> torch.Tensor:
        return frames_BFHWC.mean((1, 2, 3, 4))[:, None] + self._offset

    def overall(self, normalised: Mapping[str, float]) -> float:
        return normalised["mean"]

    def stages(self, frames_FHWC: np.ndarray, prompt: str, fps: float) -> dict[str, Any]:
        return {}
