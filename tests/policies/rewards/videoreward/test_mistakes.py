"""Each mistake that is easily made with VideoReward moves scores by what the reference measured for it, far beyond the
tolerance of `test_model`: so those tests would notice it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from policies.calibration import Calibration
from policies.rewards.published import PublishedFolder
from policies.rewards.videoreward.checkpoint import load_network, newest_checkpoint
from policies.rewards.videoreward.model_config import ModelConfig
from policies.rewards.videoreward.network import VideoBatch, VideoInput, VideoRewardNetwork
from policies.rewards.videoreward.pixels import FrameRules, frame_indices, patches, resized, target_size
from policies.rewards.videoreward.rotary import Rotary
from policies.rewards.videoreward.template import TEMPLATES
from policies.rewards.videoreward.tokens import RewardTokenizer
from tests.policies.rewards import goldens

FAULTS = goldens.expected("videoreward")["deviation_of_normalised_scores_under_faults_fp32"]
TOLERANCE = 2e-5
RULES = FrameRules()
MODEL = PublishedFolder(
    path=goldens.FOLDER / "videoreward" / "VideoReward", setting="reward.path", repository="a/b", revision=None
)
BASE = replace(MODEL, path=goldens.FOLDER / "videoreward" / "base")
CONFIG = ModelConfig.read(MODEL.path / "model_config.json")

Ids = Callable[[str, int], Tensor]
Patches = Callable[[str], tuple[Tensor, tuple[int, int, int]]]


@cache
def tokenizer() -> RewardTokenizer:
    return RewardTokenizer.load(MODEL.path / "checkpoint-11352" / "tokenizer", template_type="detailed_special")


@cache
def network(rotary: Rotary = "exact", alpha: float = 8.0) -> VideoRewardNetwork:
    peft = CONFIG.peft_lora_config.model_copy(update={"lora_alpha": alpha})
    return load_network(
        newest_checkpoint(MODEL),
        BASE,
        config=CONFIG.model_copy(update={"peft_lora_config": peft}),
        tokenizer=tokenizer(),
        dtype=torch.float32,
        rotary=rotary,
        device="cpu",
    )


def right_ids(name: str, video_tokens: int) -> Tensor:
    return tokenizer().encode(goldens.prompt(name), video_tokens=video_tokens)


def sampled(name: str) -> Tensor:
    clip = goldens.clip(name)
    return torch.from_numpy(clip.frames_FHWC[frame_indices(len(clip.frames_FHWC), clip.fps, RULES)])


def right_patches(name: str) -> tuple[Tensor, tuple[int, int, int]]:
    return patches(resized(sampled(name), RULES), RULES)


@torch.no_grad()
def scores(used: VideoRewardNetwork, *, ids: Ids = right_ids, patches_of: Patches = right_patches) -> Tensor:
    """Normalised scores and their sum, (clips, 4)."""
    rows = []
    for name in goldens.CLIPS:
        patches_NP, grid = patches_of(name)
        video = VideoInput(ids_L=ids(name, len(patches_NP) // 4), patches_NP=patches_NP, grid=grid)
        raw_D = used(VideoBatch.of([video], pad_token_id=tokenizer().pad_token_id, device="cpu"))[0]
        scale = CONFIG.own_scale
        assert isinstance(scale, Calibration)
        row = list(scale.normalise(dict(zip(("VQ", "MQ", "TA"), raw_D.tolist(), strict=True))).values())
        rows.append([*row, sum(row)])
    return torch.tensor(rows)


@cache
def right() -> Tensor:
    return scores(network())


def assert_moves_as_measured(fault: str, wrong: Tensor) -> None:
    moved = float((wrong - right()).abs().max())
    assert moved == pytest.approx(FAULTS[fault], rel=0.02)
    assert moved > 50 * TOLERANCE


@contextmanager
def three_axis_positions(used: VideoRewardNetwork) -> Iterator[None]:
    """Within the block, video tokens have positions by frame, row and column, as Qwen2-VL itself would have."""
    seen: dict[str, Any] = {}

    def note(module: torch.nn.Module, args: Any, options: dict[str, Any]) -> None:
        seen.update(options)

    def swap(module: torch.nn.Module, args: Any, options: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        ids_BL = seen["input_ids"]
        positions, _ = used.model.get_rope_index(
            ids_BL,
            mm_token_type_ids=2 * (ids_BL == tokenizer().video_token_id).int(),
            video_grid_thw=seen["video_grid_thw"],
        )
        return args, {**options, "position_ids": positions}

    hooks = [
        used.model.register_forward_pre_hook(note, with_kwargs=True),
        used.model.language_model.register_forward_pre_hook(swap, with_kwargs=True),
    ]
    yield
    for hook in hooks:
        hook.remove()


def test_three_axis_positions_instead_of_flat() -> None:
    with three_axis_positions(network()):
        wrong = scores(network())
    assert_moves_as_measured("three_axis_positions_instead_of_flat", wrong)


def without_trailing_spaces(template: str) -> str:
    return "\n".join(line.rstrip(" ") for line in template.split("\n"))


@pytest.mark.parametrize(
    ("fault", "change"),
    [
        ("template_stripped_of_outer_newlines", lambda template: template.strip("\n")),
        ("template_without_trailing_spaces", without_trailing_spaces),
    ],
)
def test_another_template(fault: str, change: Callable[[str], str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TEMPLATES, "detailed_special", change(TEMPLATES["detailed_special"]))
    assert_moves_as_measured(fault, scores(network()))


@pytest.mark.parametrize(
    ("fault", "antialias", "is_rounded"),
    [
        ("resize_without_antialias", False, True),
        ("resize_in_float_without_rounding_to_uint8", True, False),
    ],
)
def test_another_resize(fault: str, antialias: bool, is_rounded: bool) -> None:
    def patches_of(name: str) -> tuple[Tensor, tuple[int, int, int]]:
        frames_FCHW = sampled(name).permute(0, 3, 1, 2).float()
        size = target_size(*frames_FCHW.shape[2:], RULES)
        out = F.interpolate(frames_FCHW, size, mode="bicubic", antialias=antialias)
        return patches(out.round().clamp(0, 255) if is_rounded else out, RULES)

    assert_moves_as_measured(fault, scores(network(), patches_of=patches_of))


def test_frame_indices_floored_instead_of_rounded() -> None:
    def patches_of(name: str) -> tuple[Tensor, tuple[int, int, int]]:
        frames_FHWC = goldens.clip(name).frames_FHWC
        floored = torch.linspace(0, len(frames_FHWC) - 1, len(sampled(name))).long()
        return patches(resized(torch.from_numpy(frames_FHWC[floored]), RULES), RULES)

    assert_moves_as_measured("frame_indices_floored_instead_of_rounded", scores(network(), patches_of=patches_of))


def test_patch_order_reversed() -> None:
    def patches_of(name: str) -> tuple[Tensor, tuple[int, int, int]]:
        patches_NP, grid = right_patches(name)
        return patches_NP.flip(0), grid

    assert_moves_as_measured("patch_order_reversed", scores(network(), patches_of=patches_of))


def test_lora_ignored() -> None:
    assert_moves_as_measured("lora_ignored", scores(network(alpha=1e-30)))


def test_exact_frequencies_where_the_bf16_path_rounds_them() -> None:
    assert_moves_as_measured("exact_frequencies_where_the_bf16_path_rounds_them", scores(network(rotary="published")))
