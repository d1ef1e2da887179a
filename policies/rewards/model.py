"""What the rest of the system needs from a video reward model, and the one place that lists all there are."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeAlias

import numpy as np
from torch import Tensor

from policies.config import RewardConfig
from policies.errors import InputError
from policies.rewards.shapes import ShapesReward

Prepared: TypeAlias = Any  # one candidate as its model wants it, on CPU; opaque to everyone else


class RewardModel(Protocol):
    """Scores videos against their prompts. Shape letters: B videos, F frames, H W pixels, C = 3 RGB."""

    name: str
    revision: str  # changes whenever the scores can
    dimensions: tuple[str, ...]

    def prepare(self, frames_FHWC: np.ndarray, prompt: str, fps: float) -> Prepared:
        """Frames (uint8) and prompt as the model wants them, on CPU. Raises InputError on what it cannot judge."""
        ...

    def score(self, inputs: Sequence[Prepared]) -> Tensor:
        """Raw scores (B, dimensions) float32, without gradient, of at least one input; all in one forward."""
        ...

    def score_frames(self, frames_BFHWC: Tensor, prompts: Sequence[str]) -> Tensor:
        """Raw scores (B, dimensions) float32 of frames in [0, 1], differentiable with respect to them."""
        ...


_REWARD_MODELS: Mapping[str, Callable[[RewardConfig, str], RewardModel]] = {"shapes": ShapesReward.load}


def load_reward_model(config: RewardConfig, *, device: str) -> RewardModel:
    """The reward model that a config names, on a device. Raises InputError when there is none, or no weights."""
    load = _REWARD_MODELS.get(config.model)
    if load is None:
        known = ", ".join(sorted(_REWARD_MODELS))
        raise InputError(f"reward.model is {config.model!r}, which is not known; the known ones are: {known}")
    return load(config, device)
