"""VideoScore behind the protocol of all reward models.

Legend: B videos, D = 5 dimensions, F frames, H W pixels, C = 3 RGB.
"""

from __future__ import annotations

import hashlib
import json
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from policies.calibration import Calibration
from policies.config import VideoScoreConfig
from policies.errors import InputError
from policies.rewards.pixel_budget import budget_of, micro_batches
from policies.rewards.published import sha256_of
from policies.rewards.resize import round_straight_through
from policies.rewards.videoscore.checkpoint import load_checkpoint
from policies.rewards.videoscore.inputs import FramesInput, Reader, ScoreNetwork
from policies.rewards.videoscore.stages import stages_of
from policies.rewards.videoscore.template import DIMENSIONS


class VideoScore:
    """A `RewardModel` of five dimensions, each about 1 (bad) to 4 (real); not clamped.

    Args:
        network: in evaluation mode.
        reader: makes its inputs.
        files: sha256 of what both were loaded from.
        revision: changes whenever scores can.
        micro_batch_pixels: see VideoScoreConfig.
    """

    name = "videoscore"
    dimensions: tuple[str, ...] = DIMENSIONS
    own_scale: Calibration | None = None

    def __init__(
        self,
        network: ScoreNetwork,
        *,
        reader: Reader,
        files: Mapping[str, str],
        revision: str,
        micro_batch_pixels: int,
    ) -> None:
        self._network, self._reader, self._micro_batch_pixels = network, reader, micro_batch_pixels
        self.files, self.revision = files, revision

    @classmethod
    def load(cls, config: VideoScoreConfig, device: str) -> VideoScore:
        """Loads the published layout.

        Raises:
            InputError: a folder, file, key or weight is missing, damaged or not what it should be; says which.
        """
        checkpoint = load_checkpoint(config, device)
        files = sha256_of(checkpoint.files)
        settings = json.dumps([files, config.dtype, checkpoint.reader.settings], sort_keys=True)
        return cls(
            checkpoint.network,
            reader=checkpoint.reader,
            files=files,
            revision=hashlib.sha256(settings.encode()).hexdigest(),
            micro_batch_pixels=budget_of(config.micro_batch_pixels, device),
        )

    def prepare(self, frames_FHWC: np.ndarray, prompt: str, fps: float) -> FramesInput:
        """Sampled and resized frames, and token ids, on CPU.

        Raises:
            InputError: frames of another type, or too few, or a prompt that holds a token which stands for frames.
        """
        if frames_FHWC.dtype != np.uint8 or frames_FHWC.ndim != 4 or frames_FHWC.shape[-1] != 3:
            raise InputError(
                f"frames are {frames_FHWC.dtype} {frames_FHWC.shape}; expected uint8 (F, H, W, 3)",
                public="The model takes videos in 8-bit RGB.",
            )
        indices = self._reader.indices(len(frames_FHWC), fps)
        return self._reader.read(torch.from_numpy(frames_FHWC[indices]), prompt)

    def cost(self, prepared: FramesInput) -> int:
        """Pixels of the sampled and resized frames."""
        frames, _, height, width = prepared.frames_FCHW.shape
        return frames * height * width

    @torch.no_grad()
    def score(self, inputs: Sequence[FramesInput]) -> Tensor:
        """Raw scores (B, 5) float32 on CPU, without gradient; in micro-batches by `cost`."""
        return self._forward(inputs).cpu()

    def score_frames(self, frames_BFHWC: Tensor, prompts: Sequence[str], fps: float) -> Tensor:
        """Raw scores (B, 5) float32 of frames in [0, 1], differentiable with respect to them.

        Frames are rounded to multiples of 1/255 first, as a file would hold them; backward passes that straight
        through.

        Raises:
            InputError: as `prepare`, or another number of prompts than of videos.
        """
        if frames_BFHWC.ndim != 5 or frames_BFHWC.shape[-1] != 3 or len(frames_BFHWC) != len(prompts):
            raise InputError(
                f"frames are {tuple(frames_BFHWC.shape)} with {len(prompts)} prompts; expected (B, F, H, W, 3) and B"
            )
        indices = self._reader.indices(frames_BFHWC.shape[1], fps)
        pixels_BFHWC = round_straight_through(frames_BFHWC[:, indices].float() * 255)
        return self._forward([self._reader.read(*video) for video in zip(pixels_BFHWC, prompts, strict=True)])

    def overall(self, normalised: Mapping[str, float]) -> float:
        """Mean of the five."""
        return statistics.fmean(normalised[name] for name in DIMENSIONS)

    def stages(self, frames_FHWC: np.ndarray, prompt: str, fps: float) -> dict[str, Any]:
        """Sampling, pixels, text, tokens, hidden states and scores, as the reference values list them."""
        clip = self.prepare(frames_FHWC, prompt, fps)
        indices = self._reader.indices(len(frames_FHWC), fps)
        return stages_of(self._network, self._reader, clip, frames_FHWC, prompt, indices)

    def _forward(self, inputs: Sequence[FramesInput]) -> Tensor:
        scores: dict[int, Tensor] = {}
        for indices in micro_batches([self.cost(video) for video in inputs], self._micro_batch_pixels):
            # or a GPU takes 10 of float32's 23 bits for convolutions
            with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
                scores_BD = self._network([inputs[index] for index in indices])
            scores |= dict(zip(indices, scores_BD, strict=True))
        return torch.stack([scores[index] for index in range(len(inputs))])
