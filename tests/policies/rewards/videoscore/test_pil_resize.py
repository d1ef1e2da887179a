"""Resizing, against Pillow itself."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from policies.rewards.videoscore.pil_resize import Filter, resize_like_pillow

FILTERS: dict[Filter, Image.Resampling] = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}
SIDE = st.integers(1, 90)


def pillow(frame_HWC: np.ndarray, height: int, width: int, kind: Filter) -> np.ndarray:
    # in two steps, since recent Pillow versions sometimes resize the height first
    wide = Image.fromarray(frame_HWC).resize((width, frame_HWC.shape[0]), FILTERS[kind])
    return np.asarray(wide.resize((width, height), FILTERS[kind]))


@pytest.mark.parametrize("kind", list(FILTERS))
@settings(max_examples=30, deadline=None)
@given(old=st.tuples(SIDE, SIDE), new=st.tuples(SIDE, SIDE), seed=st.integers(0, 99), is_binary=st.booleans())
def test_pixels_are_pillows(
    kind: Filter, old: tuple[int, int], new: tuple[int, int], seed: int, is_binary: bool
) -> None:
    frame_HWC = np.random.default_rng(seed).integers(0, 256, (*old, 3), dtype=np.uint8)
    if is_binary:
        frame_HWC = (frame_HWC > 127).astype(np.uint8) * 255  # bicubic overshoots at such edges
    frames_FCHW = torch.from_numpy(frame_HWC).permute(2, 0, 1)[None]
    expected = pillow(frame_HWC, *new, kind)
    for frames in (frames_FCHW, frames_FCHW.float()):
        resized = resize_like_pillow(frames, *new, kind=kind)
        assert resized.dtype == frames.dtype
        np.testing.assert_array_equal(resized[0].permute(1, 2, 0).numpy(), expected)


def test_the_gradient_is_that_of_interpolation() -> None:
    frames_FCHW = torch.rand(2, 3, 30, 20, dtype=torch.float64).float() * 255
    weights = torch.rand(2, 3, 12, 31)
    gradients = []
    for resize in (
        lambda frames: resize_like_pillow(frames, 12, 31),
        lambda frames: torch.nn.functional.interpolate(frames, (12, 31), mode="bilinear", antialias=True),
    ):
        frames = frames_FCHW.clone().requires_grad_()
        (resize(frames) * weights).sum().backward()
        assert frames.grad is not None
        gradients.append(frames.grad)
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-4, atol=1e-5)


def test_frames_of_the_right_size_stay_as_they_are() -> None:
    frames_FCHW = torch.randint(0, 256, (1, 3, 9, 7), dtype=torch.uint8)
    assert torch.equal(resize_like_pillow(frames_FCHW, 9, 7), frames_FCHW)
