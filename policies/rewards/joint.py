"""Several reward models as one: their dimensions side by side, each named after its model.

Legend: B videos, D dimensions of all models together, F frames, H W pixels, C = 3 RGB.
"""

from __future__ import annotations

import hashlib
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from policies.calibration import Calibration
from policies.config import RewardModelConfig

if TYPE_CHECKING:  # which in turn makes models of this class
    from policies.rewards.model import Prepared, RewardModel


class JointReward:
    """A `RewardModel` over several: `videoreward.VQ`, `videoscore.dynamic degree`, ...

    A video that one of the models cannot judge has no scores at all.

    Args:
        models: at least one, by the name that goes before their dimensions.
    """

    def __init__(self, models: Mapping[str, RewardModel]) -> None:
        self._models = dict(models)
        self.name = "+".join(models)
        self.dimensions = tuple(f"{label}.{name}" for label, model in models.items() for name in model.dimensions)
        self.files: Mapping[str, str] = {
            f"{label}/{name}": digest for label, model in models.items() for name, digest in model.files.items()
        }
        revisions = "\n".join(f"{label} {model.revision}" for label, model in models.items())
        self.revision = hashlib.sha256(revisions.encode()).hexdigest()
        self.own_scale: Calibration | None = _joint_scale(models)

    @classmethod
    def load(cls, config: RewardModelConfig, load: Callable[[RewardModelConfig], RewardModel]) -> JointReward:
        """The models of a section and of those under its `also`."""
        return cls({label: load(section) for label, section in config.sections().items()})

    def prepare(self, frames_FHWC: np.ndarray, prompt: str, fps: float) -> tuple[Prepared, ...]:
        """What each model wants, in their order. Raises InputError when one of them cannot judge it."""
        return tuple(model.prepare(frames_FHWC, prompt, fps) for model in self._models.values())

    def cost(self, prepared: tuple[Prepared, ...]) -> int:
        """Pixels that go through all networks together."""
        return sum(model.cost(part) for model, part in zip(self._models.values(), prepared, strict=True))

    def score(self, inputs: Sequence[tuple[Prepared, ...]]) -> Tensor:
        """Raw scores (B, D) float32 on CPU, without gradient."""
        parts = zip(self._models.values(), zip(*inputs, strict=True), strict=True)
        return torch.cat([model.score(prepared).cpu() for model, prepared in parts], dim=1)

    def score_frames(self, frames_BFHWC: Tensor, prompts: Sequence[str], fps: float) -> Tensor:
        """Raw scores (B, D) float32 of frames in [0, 1], where the frames are, differentiable with respect to them."""
        scores = [model.score_frames(frames_BFHWC, prompts, fps) for model in self._models.values()]
        return torch.cat([part.to(frames_BFHWC.device) for part in scores], dim=1)

    def overall(self, normalised: Mapping[str, float]) -> float:
        """Mean of what each model makes of its own dimensions."""
        return statistics.fmean(
            model.overall({name: normalised[f"{label}.{name}"] for name in model.dimensions})
            for label, model in self._models.items()
        )

    def stages(self, frames_FHWC: np.ndarray, prompt: str, fps: float) -> dict[str, Any]:
        """Each model's."""
        return {label: model.stages(frames_FHWC, prompt, fps) for label, model in self._models.items()}


def _joint_scale(models: Mapping[str, RewardModel]) -> Calibration | None:
    """A model without a scale of its own scores on it already: mean 0 and deviation 1."""
    if all(model.own_scale is None for model in models.values()):
        return None
    mean: dict[str, float] = {}
    std: dict[str, float] = {}
    for label, model in models.items():
        for name in model.dimensions:
            scale = model.own_scale
            mean[f"{label}.{name}"] = 0.0 if scale is None else scale.mean[name]
            std[f"{label}.{name}"] = 1.0 if scale is None else scale.std[name]
    return Calibration(mean=mean, std=std)
