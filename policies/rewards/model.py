"""What the rest of the system needs from a video reward model, and the one place that lists all there are.

A new reward model is a file with its class (with a `load`), a config class in `policies/config.py`, and a line here.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypeAlias, cast

import numpy as np
from torch import Tensor

from policies.calibration import Calibration
from policies.config import RewardModelConfig
from policies.errors import InputError
from policies.rewards.joint import JointReward

Prepared: TypeAlias = Any  # one video as its model wants it, on CPU; opaque to everyone else


class RewardModel(Protocol):
    """Scores videos against their prompts. Shape letters: B videos, D dimensions, F frames, H W pixels, C = 3 RGB."""

    name: str
    revision: str  # changes whenever the scores can
    dimensions: tuple[str, ...]
    files: Mapping[str, str]  # sha256 of every file that the scores depend on, by its name in the model's folder
    own_scale: Calibration | None  # the scale the model was published with; None: its raw scores are on it already

    def prepare(self, frames_FHWC: np.ndarray, prompt: str, fps: float) -> Prepared:
        """Frames (uint8, `fps` of them a second) and prompt as the model wants them, on CPU.

        Raises:
            InputError: it cannot judge such frames or such a prompt.
        """
        ...

    def cost(self, prepared: Prepared) -> int:
        """Pixels that this input puts through the network: frames after sampling times their size after resizing."""
        ...

    def score(self, inputs: Sequence[Prepared]) -> Tensor:
        """Raw scores (B, D) float32, without gradient, of at least one input.

        Inputs may differ in length and size. They go through the network in micro-batches by `cost`, and in float32
        each gets what it would get alone, to 1e-5 of its size.
        """
        ...

    def score_frames(self, frames_BFHWC: Tensor, prompts: Sequence[str], fps: float) -> Tensor:
        """Raw scores (B, D) float32 of frames in [0, 1], differentiable with respect to them.

        On frames that are whole multiples of 1/255 they are those of `prepare` and `score`.
        """
        ...

    def overall(self, normalised: Mapping[str, float]) -> float:
        """The one number that the model's authors make of scores on their own scale."""
        ...

    def stages(self, frames_FHWC: np.ndarray, prompt: str, fps: float) -> dict[str, Any]:
        """Values on the way from frames to scores, as JSON can hold them: to compare implementations by."""
        ...


class _Loadable(Protocol):
    def load(self, config: Any, device: str) -> RewardModel:
        """The model that a config of its own class describes, on a device. Raises InputError."""
        ...


# Module and class by the `model` of the config: only the one that is asked for is imported.
REWARD_MODELS: dict[str, tuple[str, str]] = {
    "shapes": ("policies.rewards.shapes", "ShapesReward"),
    "videoreward": ("policies.rewards.videoreward.model", "VideoReward"),
    "videoscore": ("policies.rewards.videoscore.model", "VideoScore"),
}


def load_reward_model(config: RewardModelConfig, *, device: str) -> RewardModel:
    """The reward model that a config names; over several models, with those under `also`, as one.

    Args:
        device: where it goes, unless the config has a device of its own.
    Raises:
        InputError: there is no such model, or its files cannot be used.
    """
    if config.also:
        return JointReward.load(config, lambda section: _load_one(section, device))
    return _load_one(config, device)


def _load_one(config: RewardModelConfig, device: str) -> RewardModel:
    if config.model not in REWARD_MODELS:
        known = ", ".join(sorted(REWARD_MODELS))
        raise InputError(f"reward.model is {config.model!r}, which is not known; the known ones are: {known}")
    module, name = REWARD_MODELS[config.model]
    loadable = cast(_Loadable, getattr(importlib.import_module(module), name))
    return loadable.load(config, config.device or device)


def normalised(model: RewardModel, raw: Mapping[str, float]) -> dict[str, float]:
    """Raw scores on the model's own scale, by dimension; without one they stay as they are."""
    return dict(raw) if model.own_scale is None else model.own_scale.normalise(raw)
