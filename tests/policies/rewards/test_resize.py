"""Bicubic resizing."""

import numpy as np
import pytest
import torch

from policies.rewards.resize import resize_bicubic, round_straight_through
from tests.policies.rewards import goldens


@pytest.mark.parametrize("name", goldens.CLIPS)
def test_resized_frames_are_the_references_bytes(name: str) -> None:
    clip, expected = goldens.clip(name), goldens.expected("videoreward")["clips"][name]
    sampling = expected["sampling"]
    frames = torch.from_numpy(clip.frames_FHWC[sampling["indices"]]).permute(0, 3, 1, 2)
    resized = resize_bicubic(frames, sampling["resized_height"], sampling["resized_width"])
    wanted = expected["stages_and_scores"]["resized"]["sha256_as_uint8"]
    assert goldens.sha256(resized.numpy().astype(np.uint8)) == wanted


def test_uint8_and_float_frames_give_the_same_whole_numbers() -> None:
    frames = torch.randint(0, 256, (2, 3, 40, 50), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    resized = resize_bicubic(frames, 56, 28)
    assert torch.equal(resized, resize_bicubic(frames.float(), 56, 28))
    assert torch.equal(resized, resized.round()) and resized.min() >= 0 and resized.max() <= 255


def test_gradients_pass_through_the_rounding() -> None:
    frames = torch.full((1, 3, 8, 8), 100.3, requires_grad=True)
    resize_bicubic(frames, 4, 4).sum().backward()
    assert frames.grad is not None
    # each result is a weighted mean, so the weights of all results add up to their number
    assert float(frames.grad.sum()) == pytest.approx(3 * 4 * 4, rel=1e-5)


def test_rounding_is_half_to_even_exactly() -> None:
    assert round_straight_through(torch.tensor([0.5, 1.5, 2.4999998])).tolist() == [0.0, 2.0, 2.0]
