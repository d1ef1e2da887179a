"""VideoReward behind the protocol of all reward models.

Legend: B videos, D = 3 dimensions, F frames, H W pixels, C = 3 RGB.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from policies.calibration import Calibration
from policies.config import VideoRewardConfig
from policies.errors import InputError
from policies.rewards.pixel_budget import budget_of, micro_batches
from policies.rewards.published import PublishedFolder, open_published, safetensors_files, sha256_of
from policies.rewards.resize import round_straight_through
from policies.rewards.videoreward.checkpoint import Checkpoint, load_network, newest_checkpoint
from policies.rewards.videoreward.model_config import FILE, ModelConfig
from policies.rewards.videoreward.network import VideoBatch, VideoInput, VideoRewardNetwork
from policies.rewards.videoreward.pixels import FrameRules, Grid, frame_indices, patches, resized
from policies.rewards.videoreward.rotary import Rotary
from policies.rewards.videoreward.stages import stages_of
from policies.rewards.videoreward.template import DIMENSIONS
from policies.rewards.videoreward.tokens import RewardTokenizer

REPOSITORY = "KwaiVGI/VideoReward"
FILES = (FILE, "checkpoint-*/*")
"""What is wanted of a hub repository."""

_BASE_FILES = ("config.json", "*.safetensors", "*.safetensors.index.json")


class VideoReward:
    """A `RewardModel` of visual quality (VQ), motion quality (MQ) and text alignment (TA); higher is better.

    Args:
        network: in evaluation mode.
        tokenizer: with the template that the network was trained with.
        rules: likewise of frames.
        own_scale: see RewardModel.
        files: sha256 of what it was loaded from.
        revision: changes whenever scores can.
        micro_batch_pixels: see VideoRewardConfig.
    """

    name = "videoreward"
    dimensions = DIMENSIONS

    def __init__(
        self,
        network: VideoRewardNetwork,
        *,
        tokenizer: RewardTokenizer,
        rules: FrameRules,
        own_scale: Calibration | None,
        files: Mapping[str, str],
        revision: str,
        micro_batch_pixels: int,
    ) -> None:
        self._network, self._tokenizer, self._rules = network, tokenizer, rules
        self._micro_batch_pixels = micro_batch_pixels
        self.own_scale, self.files, self.revision = own_scale, files, revision

    @classmethod
    def load(cls, config: VideoRewardConfig, device: str) -> VideoReward:
        """Loads the published layout.

        Raises:
            InputError: a folder, file, key or weight is missing, damaged or not what it should be; says which.
        """
        model = open_published(
            config.path, setting="reward.path", repository=REPOSITORY, revision=config.revision, patterns=FILES
        )
        model_config = ModelConfig.read(model.file(FILE))
        checkpoint = newest_checkpoint(model)
        base = _open_base(config, model, model_config, checkpoint)
        tokenizer = RewardTokenizer.load(
            checkpoint.folder.path / "tokenizer", template_type=model_config.data_config.prompt_template_type
        )
        trained_with = model_config.network.rotary
        rotary: Rotary = config.rotary or trained_with or ("published" if config.dtype == "bfloat16" else "exact")
        network = load_network(
            checkpoint,
            base,
            config=model_config,
            tokenizer=tokenizer,
            dtype=getattr(torch, config.dtype),
            rotary=rotary,
            device=device,
        )
        vision = network.model.config.vision_config
        files = sha256_of(_files(model, checkpoint, base))
        settings = json.dumps([files, config.dtype, rotary], sort_keys=True)
        return cls(
            network,
            tokenizer=tokenizer,
            rules=model_config.frame_rules(
                patch_size=vision.patch_size,
                merge_size=vision.spatial_merge_size,
                temporal_patch_size=vision.temporal_patch_size,
            ),
            own_scale=model_config.own_scale,
            files=files,
            revision=hashlib.sha256(settings.encode()).hexdigest(),
            micro_batch_pixels=budget_of(config.micro_batch_pixels, device),
        )

    def prepare(self, frames_FHWC: np.ndarray, prompt: str, fps: float) -> VideoInput:
        """Patches of the sampled and resized frames, and token ids, on CPU.

        Raises:
            InputError: frames of another type, too few or too narrow, or a prompt that holds a reward token.
        """
        if frames_FHWC.dtype != np.uint8 or frames_FHWC.ndim != 4 or frames_FHWC.shape[-1] != 3:
            raise InputError(
                f"frames are {frames_FHWC.dtype} {frames_FHWC.shape}; expected uint8 (F, H, W, 3)",
                public="The model takes videos in 8-bit RGB.",
            )
        indices = frame_indices(len(frames_FHWC), fps, self._rules)
        return self._input(torch.from_numpy(frames_FHWC[indices]), prompt)

    def cost(self, prepared: VideoInput) -> int:
        """Pixels of the sampled and resized frames."""
        return len(prepared.patches_NP) * self._rules.temporal_patch_size * self._rules.patch_size**2

    @torch.no_grad()
    def score(self, inputs: Sequence[VideoInput]) -> Tensor:
        """Raw scores (B, 3) float32 on CPU, without gradient; inputs of one shape in micro-batches by `cost`."""
        return self._forward(inputs).cpu()

    def score_frames(self, frames_BFHWC: Tensor, prompts: Sequence[str], fps: float) -> Tensor:
        """Raw scores (B, 3) float32 of frames in [0, 1], differentiable with respect to them.

        Frames are rounded to multiples of 1/255 first, as a file would hold them; backward passes that straight
        through.

        Raises:
            InputError: as `prepare`, or another number of prompts than of videos.
        """
        if frames_BFHWC.ndim != 5 or frames_BFHWC.shape[-1] != 3 or len(frames_BFHWC) != len(prompts):
            raise InputError(
                f"frames are {tuple(frames_BFHWC.shape)} with {len(prompts)} prompts; expected (B, F, H, W, 3) and B"
            )
        indices = frame_indices(frames_BFHWC.shape[1], fps, self._rules)
        pixels_BFHWC = round_straight_through(frames_BFHWC[:, indices].float() * 255)
        return self._forward([self._input(*video) for video in zip(pixels_BFHWC, prompts, strict=True)])

    def overall(self, normalised: Mapping[str, float]) -> float:
        """Sum of the three."""
        return sum(normalised[name] for name in DIMENSIONS)

    def stages(self, frames_FHWC: np.ndarray, prompt: str, fps: float) -> dict[str, Any]:
        """Sampling, text, tokens, pixels, hidden states and head, as the reference values list them."""
        prepared = self.prepare(frames_FHWC, prompt, fps)
        return stages_of(self._network, self._tokenizer, self._rules, prepared, frames_FHWC, prompt, fps)

    def _input(self, sampled_FHWC: Tensor, prompt: str) -> VideoInput:
        patches_NP, grid = patches(resized(sampled_FHWC, self._rules), self._rules)
        ids_L = self._tokenizer.encode(prompt, video_tokens=len(patches_NP) // self._rules.merge_size**2)
        return VideoInput(ids_L=ids_L, patches_NP=patches_NP, grid=grid)

    def _forward(self, inputs: Sequence[VideoInput]) -> Tensor:
        # Only inputs of one shape share a forward: padding needs a mask over all pairs of tokens, which is slower than
        # one by one, and rounds differently.
        shapes: dict[tuple[int, Grid], list[int]] = {}
        for index, video in enumerate(inputs):
            shapes.setdefault((len(video.ids_L), video.grid), []).append(index)
        scores: dict[int, Tensor] = {}
        for alike in shapes.values():
            costs = [self.cost(inputs[index]) for index in alike]
            for chosen in micro_batches(costs, self._micro_batch_pixels):
                indices = [alike[position] for position in chosen]
                batch = VideoBatch.of(
                    [inputs[index] for index in indices],
                    pad_token_id=self._tokenizer.pad_token_id,
                    device=self._network.device,
                )
                scores |= dict(zip(indices, self._network(batch), strict=True))
        return torch.stack([scores[index] for index in range(len(inputs))])


def _open_base(
    config: VideoRewardConfig, model: PublishedFolder, model_config: ModelConfig, checkpoint: Checkpoint
) -> PublishedFolder:
    """The base model: the one that is given, or the one that a hub repository names."""
    repository = model_config.network.model_name_or_path
    if config.base is None and model.revision is None:
        raise InputError(
            f"reward.base is not given; name a folder with {repository} (hf download {repository} config.json "
            f"--local-dir DIR), or its hub id"
        )
    base = open_published(
        config.base or repository,
        setting="reward.base",
        repository=repository,
        revision=config.base_revision,
        # a whole checkpoint brings all weights along
        patterns=_BASE_FILES[:1] if checkpoint.is_whole else _BASE_FILES,
    )
    safetensors_files(base)  # a folder that lost a shard is better noticed, needed or not
    return base


def _files(model: PublishedFolder, checkpoint: Checkpoint, base: PublishedFolder) -> dict[str, Path]:
    """What scores depend on, by name: the model's files as in its folder, the base's after `base/`."""
    used = [model.path / FILE, *checkpoint.files, checkpoint.folder.path / "tokenizer" / "tokenizer.json"]
    files = {path.relative_to(model.path).as_posix(): path for path in used}
    of_base = [base.path / "config.json", *([] if checkpoint.is_whole else safetensors_files(base))]
    return files | {f"base/{path.name}": path for path in of_base}
