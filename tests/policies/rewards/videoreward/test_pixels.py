"""From frames to patches."""

import numpy as np
import pytest
import torch

from policies.errors import InputError
from policies.rewards.videoreward.pixels import FrameRules, frame_indices, patches, resized, target_size
from tests.policies.rewards import goldens

RULES = FrameRules()
OVERRIDES = goldens.expected("videoreward")["overrides_fp32_decord"]


def patches_of(name: str, rules: FrameRules) -> tuple[torch.Tensor, tuple[int, int, int]]:
    clip = goldens.clip(name)
    indices = frame_indices(len(clip.frames_FHWC), clip.fps, rules)
    return patches(resized(torch.from_numpy(clip.frames_FHWC[indices]), rules), rules)


@pytest.mark.parametrize("name", goldens.CLIPS)
def test_frames_sizes_and_patches_are_the_references(name: str) -> None:
    clip, expected = goldens.clip(name), goldens.expected("videoreward")["clips"][name]
    sampling, pixels = expected["sampling"], expected["stages_and_scores"]["pixels"]
    assert frame_indices(len(clip.frames_FHWC), clip.fps, RULES) == sampling["indices"]
    size = target_size(*clip.frames_FHWC.shape[1:3], RULES)
    assert size == (sampling["resized_height"], sampling["resized_width"])
    patches_NP, grid = patches_of(name, RULES)
    assert list(grid) == pixels["grid_thw"] and list(patches_NP.shape) == pixels["shape"]
    assert goldens.sha256(patches_NP.numpy()) == pixels["sha256"]


@pytest.mark.parametrize("case", OVERRIDES, ids=lambda case: "-".join(f"{case[key]}" for key in list(case)[:2]))
def test_other_rules_give_the_references_patches(case: dict[str, object]) -> None:
    names = {"num_frames": "num_frames", "fps": "fps", "max_pixels": "max_pixels"}
    rules = FrameRules(**{name: case[key] for key, name in names.items() if key in case})  # type: ignore[arg-type]
    patches_NP, grid = patches_of(str(case["clip"]), rules)
    assert list(grid) == case["grid_thw"]
    assert goldens.sha256(patches_NP.numpy()) == case["pixels_sha256"]


@pytest.mark.parametrize(
    ("size", "wanted"),
    [
        ((480, 832), (336, 588)),
        ((720, 1280), (336, 588)),
        ((1080, 1920), (336, 588)),
        ((480, 854), (308, 588)),
        ((480, 480), (448, 448)),
        ((320, 512), (308, 504)),
        ((256, 256), (336, 336)),
    ],
)
def test_common_sizes_become_the_published_ones(size: tuple[int, int], wanted: tuple[int, int]) -> None:
    assert target_size(*size, RULES) == wanted


@pytest.mark.parametrize("size", [(20, 4001), (4001, 20), (0, 10)])
def test_frames_of_an_extreme_shape_are_refused(size: tuple[int, int]) -> None:
    with pytest.raises(InputError, match="their sides may differ by 200 times"):
        target_size(*size, RULES)


@pytest.mark.parametrize(("total", "message"), [(0, "has 0 frames"), (1, "has 1 frame;")])
def test_clips_of_less_than_two_frames_are_refused(total: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        frame_indices(total, 8.0, RULES)


@pytest.mark.parametrize("fps", [0.0, -1.0, float("nan"), float("inf")])
def test_a_frame_rate_that_is_none_is_refused(fps: float) -> None:
    with pytest.raises(InputError, match="frame rate"):
        frame_indices(16, fps, RULES)


@pytest.mark.parametrize(
    ("total", "fps", "wanted"), [(2, 8.0, 2), (3, 8.0, 2), (5, 8.0, 4), (16, 8.0, 4), (200, 8.0, 50), (9999, 1.0, 768)]
)
def test_numbers_of_frames_are_even_and_within_the_limits(total: int, fps: float, wanted: int) -> None:
    indices = frame_indices(total, fps, RULES)
    assert len(indices) == wanted and indices[0] == 0 and indices[-1] == total - 1


def test_an_odd_last_frame_is_repeated() -> None:
    frames = torch.rand(3, 3, 28, 28) * 255
    odd, grid = patches(frames, RULES)
    even, _ = patches(torch.cat([frames, frames[-1:]]), RULES)
    assert grid == (2, 2, 2) and torch.equal(odd, even)


def test_patches_carry_gradients_back_to_frames() -> None:
    frames = torch.from_numpy(np.full((2, 32, 32, 3), 100.0, np.float32)).requires_grad_()
    rules = FrameRules(min_pixels=28 * 28)
    patches(resized(frames, rules), rules)[0].sum().backward()
    assert frames.grad is not None and bool((frames.grad > 0).all())
