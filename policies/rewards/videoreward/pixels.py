"""VideoReward's way from frames to patches: which frames, what size, which order. Plain torch, differentiable.

Legend: F frames, H W pixels, C = 3 RGB; T = F/2 pairs of frames, h w patches per column and row, N = T h w patches,
P = 3 * 2 * patch * patch values of a patch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from policies.errors import InputError
from policies.rewards.resize import resize_bicubic

_MEAN = (0.48145466, 0.4578275, 0.40821073)  # of CLIP's training images, as in Qwen2-VL's preprocessor_config.json
_STD = (0.26862954, 0.26130258, 0.27577711)
_MIN_FRAMES, _MAX_FRAMES = 4, 768
_MAX_ASPECT_RATIO = 200

Grid = tuple[int, int, int]
"""T, h, w."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameRules:
    """Which frames are looked at, and at what size. The defaults are the published model's."""

    fps: float = 2.0
    """Frames per second that are looked at."""
    num_frames: int | None = None
    """Their number instead, whatever the clip's length."""
    every_frame: bool = False
    """All frames of a clip instead, whatever its rate."""
    min_pixels: int = 128 * 28 * 28
    """Area of a frame after resizing, at least about."""
    max_pixels: float = 200704
    """Likewise, at most."""
    patch_size: int = 14
    """Side of a patch, pixels."""
    merge_size: int = 2
    """Patches per side that become one token."""
    temporal_patch_size: int = 2
    """Frames that become one token."""

    @property
    def factor(self) -> int:
        """Sides of a frame are multiples of this."""
        return self.patch_size * self.merge_size


def frame_indices(total: int, fps: float, rules: FrameRules) -> list[int]:
    """Indices of the frames that are looked at: evenly spaced, first and last included, half rounded to even.

    Args:
        total: frames of the clip.
        fps: its frames per second.
        rules: see FrameRules.
    Raises:
        InputError: fewer than two frames, or no usable rate.
    """
    if not (math.isfinite(fps) and fps > 0):
        raise InputError(
            f"the clip's frame rate is {fps}; it must be a positive number of frames per second",
            public="The video's frame rate must be a positive number of frames per second.",
        )
    if total < 2:
        raise InputError(
            f"the clip has {total} frame{'s' * (total != 1)}; VideoReward needs at least 2",
            public="The model needs videos of at least 2 frames.",
        )
    if rules.every_frame:
        return list(range(total))
    if rules.num_frames is not None:
        wanted = 2 * round(rules.num_frames / 2)
    else:
        most = 2 * (min(_MAX_FRAMES, total) // 2)
        wanted = 2 * round(min(max(total / fps * rules.fps, _MIN_FRAMES), most) / 2)
    count = min(wanted, total)
    if count < 2:
        raise InputError(f"num_frames {rules.num_frames} leaves {count} frames to look at; ask for at least 2")
    indices: list[int] = torch.linspace(0, total - 1, count).round().long().tolist()
    return indices


def target_size(height: int, width: int, rules: FrameRules) -> tuple[int, int]:
    """Height and width after resizing: multiples of `rules.factor`, near the old shape, of an area within the limits.

    Raises:
        InputError: an empty frame, or one side more than 200 times the other.
    """
    if min(height, width) < 1 or max(height, width) / min(height, width) > _MAX_ASPECT_RATIO:
        raise InputError(
            f"frames are {height}x{width} pixels; their sides may differ by {_MAX_ASPECT_RATIO} times",
            public=f"The model takes frames of which one side is at most {_MAX_ASPECT_RATIO} times the other.",
        )
    factor = rules.factor
    new_height = max(factor, factor * round(height / factor))
    new_width = max(factor, factor * round(width / factor))
    if new_height * new_width > rules.max_pixels:
        shrink = math.sqrt(height * width / rules.max_pixels)
        new_height = max(factor, factor * math.floor(height / shrink / factor))
        new_width = max(factor, factor * math.floor(width / shrink / factor))
    elif new_height * new_width < rules.min_pixels:
        grow = math.sqrt(rules.min_pixels / (height * width))
        new_height = factor * math.ceil(height * grow / factor)
        new_width = factor * math.ceil(width * grow / factor)
    return new_height, new_width


def resized(frames_FHWC: Tensor, rules: FrameRules) -> Tensor:
    """Sampled frames (uint8, or float on the scale 0..255) at their target size, (F, 3, H, W) float32 whole numbers."""
    height, width = target_size(frames_FHWC.shape[1], frames_FHWC.shape[2], rules)
    return resize_bicubic(frames_FHWC.permute(0, 3, 1, 2), height, width)


def patches(resized_FCHW: Tensor, rules: FrameRules) -> tuple[Tensor, Grid]:
    """Normalised patches (N, P) float32 in the order Qwen2-VL reads them, and their grid.

    Args:
        resized_FCHW: 0..255; sides multiples of `rules.factor`. An odd frame is repeated.
    """
    frames, channels, height, width = resized_FCHW.shape
    mean_C = torch.tensor(_MEAN, device=resized_FCHW.device).view(1, 3, 1, 1)
    std_C = torch.tensor(_STD, device=resized_FCHW.device).view(1, 3, 1, 1)
    pixels = (resized_FCHW / 255 - mean_C) / std_C
    pair, merge, side = rules.temporal_patch_size, rules.merge_size, rules.patch_size
    if missing := -frames % pair:
        pixels = torch.cat([pixels, pixels[-1:].expand(missing, -1, -1, -1)])
    grid = (len(pixels) // pair, height // side, width // side)
    blocks = pixels.view(grid[0], pair, channels, grid[1] // merge, merge, side, grid[2] // merge, merge, side)
    patches_NP = blocks.permute(0, 3, 6, 4, 7, 2, 1, 5, 8).reshape(math.prod(grid), -1)
    return patches_NP, grid
