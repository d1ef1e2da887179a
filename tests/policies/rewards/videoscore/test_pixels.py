"""From frames to pixels."""

import numpy as np
import pytest
import torch

from policies.errors import InputError
from policies.rewards.videoscore.pixels import ImageRules, frame_indices, normalised, resized, target_size
from tests.policies.rewards import goldens

RULES = ImageRules()
EXPECTED = goldens.expected("videoscore")


@pytest.mark.parametrize("name", goldens.CLIPS)
def test_frames_and_pixels_are_the_references(name: str) -> None:
    frames_FHWC, expected = goldens.clip(name).frames_FHWC, EXPECTED["clips"][name]
    indices = frame_indices(len(frames_FHWC), max_frames=16)
    assert len(frames_FHWC) == expected["sampling"]["total_frames"] and indices == expected["sampling"]["indices"]
    assert goldens.sha256(frames_FHWC[indices]) == expected["frames"]["sha256"]
    pixels = normalised(resized(torch.from_numpy(frames_FHWC[indices]), RULES), RULES)
    assert [1, *pixels.shape] == expected["pixels"]["shape"] and pixels.dtype == torch.float32
    assert goldens.sha256(pixels.numpy()) == expected["pixels"]["sha256"]


@pytest.mark.parametrize("name", goldens.CLIPS)
def test_other_frame_rules_take_the_references_frames(name: str) -> None:
    total = len(goldens.clip(name).frames_FHWC)
    other, benchmark = EXPECTED["other_frame_limit_fp32"], EXPECTED["benchmark_frame_rule"]
    assert frame_indices(total, max_frames=other["max_num_frames"]) == other["clips"][name]["indices"]
    assert frame_indices(total, max_frames=16, rule="benchmark") == benchmark[name]["indices"]


@pytest.mark.parametrize("max_frames", [16, 48, 7])
def test_never_more_frames_than_asked_for_nor_beyond_the_end(max_frames: int) -> None:
    for total in range(1, 400):
        indices = frame_indices(total, max_frames=max_frames)
        assert len(indices) == min(total, max_frames)
        assert indices == sorted(set(indices)) and indices[-1] < total


def test_a_clip_without_frames_is_refused() -> None:
    with pytest.raises(InputError, match="the clip has 0 frames; VideoScore needs at least 1"):
        frame_indices(0, max_frames=16)


@pytest.mark.parametrize(
    ("size", "wanted"),
    [
        ((480, 832), (480, 832)),
        ((720, 1280), (551, 980)),
        ((1280, 720), (980, 551)),
        ((1080, 1920), (551, 980)),
        ((192, 320), (378, 378)),
        ((400, 288), (400, 378)),
        ((1000, 1000), (980, 980)),
        ((100, 2000), (378, 980)),
    ],
)
def test_long_sides_shrink_in_proportion_and_short_sides_are_stretched(
    size: tuple[int, int], wanted: tuple[int, int]
) -> None:
    assert target_size(*size, RULES) == wanted


def test_empty_frames_are_refused() -> None:
    with pytest.raises(InputError, match="frames are 0x10 pixels"):
        target_size(0, 10, RULES)


def test_float_frames_give_the_pixels_of_uint8_frames() -> None:
    frames_FHWC = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 100, 500, 3), dtype=np.uint8))
    whole, floating = resized(frames_FHWC, RULES), resized(frames_FHWC.float(), RULES)
    assert torch.equal(normalised(whole, RULES), normalised(floating, RULES))


@pytest.mark.parametrize("rescale_factor", [1 / 255, 0.00392156862745098])
def test_every_byte_becomes_what_the_reference_computes(rescale_factor: float) -> None:
    rules = ImageRules(rescale_factor=rescale_factor)
    bytes_F311 = torch.arange(256, dtype=torch.uint8).view(256, 1, 1, 1).expand(256, 3, 1, 1)
    expected = ((np.arange(256) * rescale_factor).astype(np.float32) - np.float32(0.5)) / np.float32(0.5)
    assert np.array_equal(normalised(bytes_F311, rules)[:, 0, 0, 0].numpy(), expected)
