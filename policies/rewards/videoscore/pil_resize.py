"""Resizing as Pillow does it, byte for byte, in plain torch, and differentiable.

Legend: F frames, C channels, H W pixels before, h w after.

Each output pixel is a weighted sum of a few input pixels with weights in fixed point, rounded to a whole number after
each of two passes: first along the width, then along the height. (Pillow 10, with which the published models were used,
always goes in this order; Pillow 13 turns it where that is cheaper, which moves some pixels by 1.) Rounding has a zero
gradient, so backward passes it straight through (Bengio et al. 2013, arXiv 1308.3432).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor

from policies.rewards.resize import round_straight_through

Filter = Literal["bilinear", "bicubic"]

_PRECISION_BITS = 22  # of a weight's fraction, as in Pillow for 8-bit images


def _bilinear(distance: float) -> float:
    return max(0.0, 1.0 - abs(distance))


def _bicubic(distance: float) -> float:
    sharpness, x = -0.5, abs(distance)
    if x < 1.0:
        return ((sharpness + 2.0) * x - (sharpness + 3.0)) * x * x + 1.0
    return (((x - 5.0) * x + 8.0) * x - 4.0) * sharpness if x < 2.0 else 0.0


_FILTERS: dict[Filter, tuple[Callable[[float], float], float]] = {
    "bilinear": (_bilinear, 1.0),
    "bicubic": (_bicubic, 2.0),
}
"""The function, and how far it reaches."""


def resize_like_pillow(frames_FCHW: Tensor, height: int, width: int, *, kind: Filter = "bilinear") -> Tensor:
    """Resizes frames of whole numbers to frames of whole numbers.

    Args:
        frames_FCHW: uint8, or float on the scale 0..255; float values are rounded first.
        height: of the result, pixels.
        width: likewise.
        kind: Pillow's BILINEAR or BICUBIC.
    Returns:
        (F, C, h, w), uint8 for uint8 input; float32 for float input, differentiable with respect to it.
    """
    if frames_FCHW.is_floating_point():
        frames_FCHW = round_straight_through(frames_FCHW.float())
    # frame by frame: sums take four or eight times the memory of the pixels
    return torch.stack([_resize(frame, height, width, kind) for frame in frames_FCHW])


def _resize(frame_CHW: Tensor, height: int, width: int, kind: Filter) -> Tensor:
    frame_CHw = _resize_height(frame_CHW.transpose(1, 2), width, kind).transpose(1, 2)
    return _resize_height(frame_CHw, height, kind)


def _resize_height(frame_CHW: Tensor, height: int, kind: Filter) -> Tensor:
    if frame_CHW.shape[1] == height:
        return frame_CHW
    indices_Kh, weights_Kh = (table.to(frame_CHW.device) for table in _taps(frame_CHW.shape[1], height, kind))
    is_whole = not frame_CHW.is_floating_point()
    # both hold the sums exactly; only float64 has a gradient
    pixels = frame_CHW.contiguous().to(torch.int32 if is_whole else torch.float64)
    total = torch.zeros((), dtype=pixels.dtype, device=pixels.device)
    for indices_h, weights_h in zip(indices_Kh, weights_Kh.to(pixels.dtype), strict=True):
        total = total + pixels.index_select(1, indices_h) * weights_h[:, None]
    # half is rounded up, not to even
    if is_whole:
        whole: Tensor = ((total + 2 ** (_PRECISION_BITS - 1)) >> _PRECISION_BITS).clamp(0, 255).byte()
        return whole
    fraction = total / 2**_PRECISION_BITS
    rounded: Tensor = fraction + (torch.floor(fraction.detach() + 0.5) - fraction.detach())
    return rounded.clamp(0, 255).float()


@lru_cache(maxsize=64)
def _taps(old: int, new: int, kind: Filter) -> tuple[Tensor, Tensor]:
    """For each of `new` pixels the K input pixels that it is made of, int64 (K, new), and their weights, float64."""
    function, reach = _FILTERS[kind]
    scale = old / new
    stretch = max(scale, 1.0)
    rows: list[tuple[int, list[float]]] = []
    for position in range(new):
        center = (position + 0.5) * scale
        first = max(int(center - reach * stretch + 0.5), 0)
        last = min(int(center + reach * stretch + 0.5), old)
        weights = [function((index - center + 0.5) * (1.0 / stretch)) for index in range(first, last)]
        total = sum(weights)
        rows.append((first, [_fixed_point(weight / total) for weight in weights]))
    most = max(len(weights) for _, weights in rows)
    indices = torch.tensor([[min(first + k, old - 1) for first, _ in rows] for k in range(most)])
    padded = torch.tensor(
        [[weights[k] if k < len(weights) else 0.0 for _, weights in rows] for k in range(most)], dtype=torch.float64
    )
    return indices, padded


def _fixed_point(weight: float) -> float:
    return float(int(weight * 2**_PRECISION_BITS + math.copysign(0.5, weight)))
