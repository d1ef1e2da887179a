"""VideoScore's way from frames to pixels: which frames, what size, which scale. Plain torch, differentiable.

Legend: F frames, H W pixels, C = 3 RGB.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from policies.errors import InputError
from policies.rewards.videoscore.pil_resize import Filter, resize_like_pillow

FrameRule = Literal["script", "benchmark"]
"""script: at most `max_frames`, evenly spaced from the first; benchmark: always `max_frames`, first and last included,
with repeats in short clips."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageRules:
    """What Idefics2's image processor does. The defaults are those of the published preprocessor_config.json."""

    shortest_edge: int = 378
    """Pixels; a shorter side is stretched, whatever becomes of the shape."""
    longest_edge: int = 980
    """Pixels; a frame with a longer side shrinks in proportion."""
    kind: Filter = "bilinear"
    """Pillow's filter."""
    rescale_factor: float = 1 / 255
    """Times the 8-bit values."""
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    """Per channel, after rescaling."""
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)
    """Likewise."""


def frame_indices(total: int, *, max_frames: int, rule: FrameRule = "script") -> list[int]:
    """Indices of the frames that are looked at.

    Args:
        total: frames of the clip.
        max_frames: 16 for VideoScore and its anno-only form, 48 for v1.1.
        rule: see FrameRule.
    Raises:
        InputError: the clip has no frames.
    """
    if total < 1:
        raise InputError(
            "the clip has 0 frames; VideoScore needs at least 1", public="The model needs videos of at least 1 frame."
        )
    if rule == "benchmark":
        spaced: list[int] = np.linspace(0, total - 1, max_frames).astype(int).tolist()
        return spaced
    if total <= max_frames:
        return list(range(total))
    # arange may give one more than it should, by rounding
    indices: list[int] = np.arange(0, total, total / max_frames).astype(int)[:max_frames].tolist()
    return indices


def target_size(height: int, width: int, rules: ImageRules) -> tuple[int, int]:
    """Height and width after resizing. Raises InputError on an empty frame."""
    if min(height, width) < 1:
        raise InputError(
            f"frames are {height}x{width} pixels; they need at least one",
            public="The model needs frames of at least one pixel.",
        )
    longest, aspect_ratio = rules.longest_edge, width / height
    if width >= height and width > longest:
        height, width = int(longest / aspect_ratio), longest
    elif height > width and height > longest:
        height, width = longest, int(longest * aspect_ratio)
    return max(height, rules.shortest_edge), max(width, rules.shortest_edge)


def resized(frames_FHWC: Tensor, rules: ImageRules) -> Tensor:
    """Sampled frames (uint8, or float on the scale 0..255) at their target size, (F, 3, H, W), whole numbers."""
    height, width = target_size(frames_FHWC.shape[1], frames_FHWC.shape[2], rules)
    return resize_like_pillow(frames_FHWC.permute(0, 3, 1, 2), height, width, kind=rules.kind)


def normalised(resized_FCHW: Tensor, rules: ImageRules) -> Tensor:
    """Pixels as the vision tower takes them, (F, 3, H, W) float32."""
    mean_C11, std_C11 = (
        torch.tensor(values, device=resized_FCHW.device).view(3, 1, 1) for values in (rules.mean, rules.std)
    )
    # The reference rounds a product in float64 to float32. For every whole number of 0..255 that is this quotient.
    return (resized_FCHW.float() / (1 / rules.rescale_factor) - mean_C11) / std_C11
