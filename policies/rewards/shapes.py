"""The bundled world's reward model behind the protocol of all reward models."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers.utils import logging

from policies.calibration import Calibration
from policies.config import ShapesRewardConfig
from policies.errors import InputError
from policies.rewards.published import check_finite, sha256_of
from policies.shapes.prompts import parse_prompt
from policies.shapes.reward import ShapesRewardModel

BUNDLED_FOLDER = Path(__file__).parents[1] / "shapes" / "assets" / "reward"
_WEIGHTS_FILE = "model.safetensors"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PreparedClip:
    """A clip as the model wants it: float32 in [0, 1], (F, H, W, 3), on CPU."""

    frames_FHWC: Tensor
    prompt: str


class ShapesReward:
    """A `RewardModel` of visual quality (VQ), motion quality (MQ) and text alignment (TA). Scores have no unit.

    A clip's scores do not depend on how many others are scored with it.

    Args:
        model: put in eval mode here.
        files: sha256 of what it was loaded from.
    """

    name = "shapes"
    own_scale: Calibration | None = None

    def __init__(self, model: ShapesRewardModel, *, files: Mapping[str, str]) -> None:
        self._model = model.eval().requires_grad_(False).double_products()
        self.revision = files[_WEIGHTS_FILE]
        self.files = files
        self.dimensions: tuple[str, ...] = tuple(model.config.dimensions)

    @classmethod
    def load(cls, config: ShapesRewardConfig, device: str) -> ShapesReward:
        """Loads the folder that the config names, or the bundled one; safetensors only.

        Raises:
            InputError: the folder does not exist, holds no safetensors or another model, or a weight is missing or not
                finite.
        """
        folder = BUNDLED_FOLDER if config.path is None else Path(config.path)
        weights = folder / _WEIGHTS_FILE
        if not weights.is_file():
            raise InputError(
                f"reward.path: {folder} holds no {_WEIGHTS_FILE}; name a folder that `onlinevpo shapes build` or "
                "save_pretrained wrote"
            )
        try:
            with _without_progress_bar():
                model, report = ShapesRewardModel.from_pretrained(
                    folder, use_safetensors=True, local_files_only=True, output_loading_info=True
                )
        except Exception as error:  # transformers raises many classes for a folder of something else
            raise InputError(f"reward.path: {folder} is no shapes reward model: {error}") from error
        if missing := sorted(report["missing_keys"]):  # they would be random numbers, and so would the scores
            raise InputError(f"{weights} lacks {len(missing)} of the model's weights, such as {missing[0]}")
        check_finite(model.state_dict(), weights)
        files = sha256_of({file.name: file for file in (folder / "config.json", weights)})
        return cls(model.to(device), files=files)

    def prepare(self, frames_FHWC: np.ndarray, prompt: str, fps: float) -> PreparedClip:
        """A clip and prompt of this world on CPU; `fps` is not looked at, for all its clips have the same.

        Raises:
            InputError: frames of another type or size, or a prompt that is not of this world.
        """
        config = self._model.config
        expected = (config.num_frames, config.size, config.size, 3)
        if frames_FHWC.dtype != np.uint8 or frames_FHWC.shape != expected:
            raise InputError(
                f"frames are {frames_FHWC.dtype} {frames_FHWC.shape}; this reward model takes uint8 {expected} (FHWC)",
                public=f"The model takes videos of exactly {config.num_frames} frames of {config.size}x{config.size} "
                "pixels.",
            )
        parse_prompt(prompt)
        # a copy, since arrays from an object store are read-only
        return PreparedClip(frames_FHWC=torch.tensor(frames_FHWC).float() / 255, prompt=prompt)

    def cost(self, prepared: PreparedClip) -> int:
        """Pixels of the clip."""
        num_frames, height, width, _ = prepared.frames_FHWC.shape
        return num_frames * height * width

    @torch.no_grad()
    def score(self, inputs: Sequence[PreparedClip]) -> Tensor:
        """Raw scores (B, 3) float32, without gradient."""
        frames_BFHWC = torch.stack([clip.frames_FHWC for clip in inputs]).to(self._model.device)
        return self._forward(frames_BFHWC, [clip.prompt for clip in inputs])

    def score_frames(self, frames_BFHWC: Tensor, prompts: Sequence[str], fps: float) -> Tensor:
        """Raw scores (B, 3) float32 of frames in [0, 1], differentiable with respect to them."""
        return self._forward(frames_BFHWC, prompts)

    def _forward(self, frames_BFHWC: Tensor, prompts: Sequence[str]) -> Tensor:
        if len(frames_BFHWC) == 1:
            # torch convolves a single clip with another algorithm, which rounds in another order
            return self._forward(frames_BFHWC.expand(2, -1, -1, -1, -1), [*prompts, *prompts])[:1]
        # colours first in memory: with them last, threads share the sums of a group norm in a way that depends on B
        frames_BFHWC = frames_BFHWC.permute(0, 4, 1, 2, 3).contiguous().permute(0, 2, 3, 4, 1)
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            scores_BD: Tensor = self._model.score_frames(frames_BFHWC, prompts)
        return scores_BD

    def overall(self, normalised: Mapping[str, float]) -> float:
        """Mean of the three."""
        return statistics.fmean(normalised[name] for name in self.dimensions)

    def stages(self, frames_FHWC: np.ndarray, prompt: str, fps: float) -> dict[str, Any]:
        """The words that the model reads and the raw scores."""
        clip = self.prepare(frames_FHWC, prompt, fps)
        return {
            "frames": list(clip.frames_FHWC.shape),
            "input_ids": self._model.token_ids([prompt])[0].tolist(),
            "raw": self.score([clip])[0].tolist(),
        }


@contextmanager
def _without_progress_bar() -> Iterator[None]:
    was_enabled = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if was_enabled:
            logging.enable_progress_bar()
