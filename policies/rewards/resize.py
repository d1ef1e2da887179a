"""Bicubic resizing as VideoReward's reference does it, in plain torch, and differentiable.

Legend: F frames, C channels, H W pixels before, h w after.

torchvision's antialiased uint8 resize equals torch's float one followed by rounding and clamping, byte for byte.
Rounding has a zero gradient, so backward passes it straight through (Bengio et al. 2013, arXiv 1308.3432).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def round_straight_through(values: Tensor) -> Tensor:
    """Rounds half to even; the gradient is that of the identity."""
    # no `values + (rounded - values).detach()`: that sum would not always be the rounded number
    rounded: Tensor = _RoundStraightThrough.apply(values)  # type: ignore[no-untyped-call]
    return rounded


def resize_bicubic(frames_FCHW: Tensor, height: int, width: int) -> Tensor:
    """Antialiased bicubic resize to whole numbers.

    Args:
        frames_FCHW: uint8, or float on the scale 0..255.
        height: of the result, pixels.
        width: likewise.
    Returns:
        (F, C, h, w) float32, whole numbers in [0, 255], differentiable with respect to float frames.
    """
    resized_FChw = F.interpolate(
        frames_FCHW.float(), size=(height, width), mode="bicubic", align_corners=False, antialias=True
    )
    return round_straight_through(resized_FChw).clamp(0, 255)


class _RoundStraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx: object, values: Tensor) -> Tensor:
        return values.round()

    @staticmethod
    def backward(ctx: object, gradient: Tensor) -> Tensor:
        return gradient
