"""VideoReward against the published reference, stage by stage. What the reference is: tests/goldens/README.md."""

from __future__ import annotations

import itertools
import json
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch

from policies.config import VideoRewardConfig
from policies.errors import InputError
from policies.rewards.model import RewardModel, load_reward_model, normalised
from tests.policies.rewards import goldens

EXPECTED = goldens.expected("videoreward")
ROWS = {
    "fp32": {"dtype": "float32", "rotary": "exact"},
    "fp32_rounded_frequencies": {"dtype": "float32", "rotary": "published"},
    "bf16": {"dtype": "bfloat16", "rotary": "published"},
}
FOLDER = goldens.FOLDER / "videoreward"
HIDDEN_FP32 = 2e-5
HIDDEN_BF16 = 0.07  # 1.5 times the largest difference between correct computations, as for scores
SCORES = {"fp32": 2e-5, "fp32_rounded_frequencies": 2e-5, "bf16": 0.038}

both = pytest.mark.parametrize(("row", "name"), list(itertools.product(ROWS, goldens.CLIPS)))


def config(**settings: Any) -> VideoRewardConfig:
    folders = {"path": str(FOLDER / "VideoReward"), "base": str(FOLDER / "base")}
    return VideoRewardConfig.model_validate(folders | settings)


@cache
def model(row: str) -> RewardModel:
    return load_reward_model(config(**ROWS[row]), device="cpu")


@cache
def raw(row: str, name: str) -> torch.Tensor:
    clip = goldens.clip(name)
    return model(row).score([model(row).prepare(clip.frames_FHWC, goldens.prompt(name), clip.fps)])[0]


@cache
def stages(row: str, name: str) -> dict[str, Any]:
    clip = goldens.clip(name)
    return model(row).stages(clip.frames_FHWC, goldens.prompt(name), clip.fps)


def reference(row: str, name: str) -> dict[str, Any]:
    found: dict[str, Any] = EXPECTED["clips"][name]["stages_and_scores"]["scores"][row]
    return found


def flat(values: Any, at: str = "") -> dict[str, float]:
    """Every number of nested dictionaries and lists by its path."""
    if not isinstance(values, dict | list):
        return {at: values}
    items = values.items() if isinstance(values, dict) else enumerate(values)
    return {path: number for key, value in items for path, number in flat(value, f"{at}/{key}").items()}


def with_overall(scores: dict[str, float], row: str) -> dict[str, float]:
    return scores | {"Overall": model(row).overall(scores)}


@both
def test_raw_and_normalised_scores_are_the_references(row: str, name: str) -> None:
    scores = dict(zip(model(row).dimensions, raw(row, name).tolist(), strict=True))
    assert with_overall(scores, row) == pytest.approx(reference(row, name)["raw"], abs=SCORES[row])
    on_scale = with_overall(normalised(model(row), scores), row)
    assert on_scale == pytest.approx(reference(row, name)["normalised"], abs=SCORES[row])


@both
def test_hidden_states_and_head_are_the_references(row: str, name: str) -> None:
    found, wanted = stages(row, name), reference(row, name)["stages"]
    tolerance = HIDDEN_BF16 if row == "bf16" else HIDDEN_FP32
    assert set(wanted) <= set(found)
    for stage in wanted:
        expected = flat(wanted[stage])
        assert expected.keys() <= flat(found[stage]).keys()
        assert {key: flat(found[stage])[key] for key in expected} == pytest.approx(expected, abs=tolerance)


@pytest.mark.parametrize("name", goldens.CLIPS)
def test_stages_before_the_network_are_the_references(name: str) -> None:
    found, clip = stages("fp32", name), EXPECTED["clips"][name]
    for part in ("sampling", "text", "tokens"):
        shared = found[part].keys() & clip[part].keys()
        assert len(shared) >= 5 and {key: found[part][key] for key in shared} == {
            key: clip[part][key] for key in shared
        }
    for part, exact in ("frames", "sha256"), ("resized", "sha256_as_uint8"), ("pixels", "sha256"):
        assert found[part][exact] == clip["stages_and_scores"][part][exact]
    wanted = {key: clip["stages_and_scores"]["pixels"][key] for key in ("mean", "std", "first", "last", "grid_thw")}
    assert {key: flat(found["pixels"])[key] for key in flat(wanted)} == pytest.approx(flat(wanted), abs=1e-6)
    json.dumps(found, allow_nan=False)


@pytest.mark.parametrize("row", ROWS)
def test_preferences_are_the_references(row: str) -> None:
    pairs = [pair for pair in EXPECTED["pairwise"] if pair["precision"] == row]
    assert len(pairs) == 3
    for pair in pairs:
        first, second = (
            with_overall(
                normalised(model(row), dict(zip(("VQ", "MQ", "TA"), raw(row, pair[side]).tolist(), strict=True))), row
            )
            for side in "AB"
        )
        for dimension, difference in ((key, pair[key]) for key in first):
            found = first[dimension] - second[dimension]
            assert found == pytest.approx(difference["difference"], abs=2 * SCORES[row])
            if difference["decided_beyond_tolerance"]:
                assert ("A" if found > 0 else "B") == difference["preferred"]


def inputs_of(loaded: RewardModel, pairs: list[tuple[str, str]]) -> list[Any]:
    clips = [(goldens.clip(name), goldens.prompt(other)) for name, other in pairs]
    return [loaded.prepare(clip.frames_FHWC, prompt, clip.fps) for clip, prompt in clips]


@pytest.mark.parametrize("row", ROWS)
def test_three_clips_in_one_call_are_the_references_batch(row: str) -> None:
    scores = model(row).score(inputs_of(model(row), [(name, name) for name in goldens.CLIPS]))
    for name, found in zip(goldens.CLIPS, scores, strict=True):
        on_scale = normalised(model(row), dict(zip(model(row).dimensions, found.tolist(), strict=True)))
        wanted = EXPECTED["batch_of_three"][row][name]["normalised"]
        assert with_overall(on_scale, row) == pytest.approx(wanted, abs=SCORES[row])
        assert torch.equal(found, raw(row, name))


@pytest.mark.slow
@pytest.mark.parametrize("micro_batch_pixels", [1, 2_000_000, 10_000_000])
def test_mixed_lengths_and_sizes_score_as_one_by_one(micro_batch_pixels: int) -> None:
    loaded = load_reward_model(config(**ROWS["fp32"], micro_batch_pixels=micro_batch_pixels), device="cpu")
    names = [
        ("clip_b", "clip_b"),
        ("clip_a", "clip_a"),
        ("clip_b", "clip_a"),
        ("clip_b", "clip_b"),
        ("clip_c", "clip_c"),
    ]
    inputs = inputs_of(loaded, names)
    alone = torch.cat([loaded.score([one]) for one in inputs])
    torch.testing.assert_close(loaded.score(inputs), alone, rtol=1e-5, atol=0)


@pytest.mark.parametrize("name", goldens.CLIPS)
def test_frames_between_0_and_1_score_as_bytes_do(name: str) -> None:
    clip = goldens.clip(name)
    frames = torch.from_numpy(clip.frames_FHWC).float()[None] / 255
    with torch.no_grad():
        scores = model("fp32").score_frames(frames, [goldens.prompt(name)], clip.fps)
    assert torch.equal(scores[0], raw("fp32", name))


@pytest.mark.slow
def test_scores_are_differentiable_with_respect_to_frames() -> None:
    frames = torch.from_numpy(np.stack([goldens.clip("clip_b").frames_FHWC[:4]] * 2)).float() / 255
    frames[1] = 1 - frames[1]
    frames.requires_grad_()
    scores = model("fp32").score_frames(frames, ["a boat", "two boats"], 24.0)
    (gradient,) = torch.autograd.grad(scores[0].sum(), frames)
    assert gradient[0].isfinite().all() and gradient[0].abs().max() > 0
    assert not gradient[1].any()  # a video's score depends on no other
    # a small step along the gradient raises the score about as much as the gradient says
    step = 0.02 * gradient.sign()
    with torch.no_grad():
        raised = model("fp32").score_frames((frames + step).clamp(0, 1), ["a boat", "two boats"], 24.0)
    assert raised[0].sum() > scores[0].sum()


def test_the_scale_is_that_of_the_file_and_the_overall_score_the_sum() -> None:
    scale = model("fp32").own_scale
    assert scale is not None and scale.mean == {"VQ": 3.6757, "MQ": 1.1646, "TA": 2.8105}
    assert model("fp32").overall({"VQ": 1.0, "MQ": 2.0, "TA": -4.5}) == -1.5


def test_cost_is_the_pixels_after_sampling_and_resizing() -> None:
    clip = goldens.clip("clip_a")
    prepared = model("fp32").prepare(clip.frames_FHWC, "a ball", clip.fps)
    assert model("fp32").cost(prepared) == 8 * 252 * 420


def test_files_are_those_that_scores_depend_on_and_the_revision_changes_with_precision() -> None:
    assert sorted(model("fp32").files) == [
        "base/config.json",
        "checkpoint-11352/model.pth",
        "checkpoint-11352/tokenizer/tokenizer.json",
        "model_config.json",
    ]
    sums = dict(reversed(line.split()) for line in (goldens.FOLDER / "sha256sums.txt").read_text().splitlines())
    assert model("fp32").files["checkpoint-11352/model.pth"] == next(
        digest for name, digest in sums.items() if name.endswith("model.pth")
    )
    assert len({model(row).revision for row in ROWS}) == 3


def test_rotary_follows_precision_unless_it_is_given() -> None:
    assert load_reward_model(config(dtype="float32"), device="cpu").revision == model("fp32").revision
    assert load_reward_model(config(dtype="bfloat16"), device="cpu").revision == model("bf16").revision


@pytest.mark.parametrize(
    "frames", [np.zeros((4, 8, 8, 3), np.float32), np.zeros((8, 8, 3), np.uint8), np.zeros((4, 8, 8, 4), np.uint8)]
)
def test_frames_of_another_layout_are_refused(frames: np.ndarray) -> None:
    with pytest.raises(InputError, match=r"expected uint8 \(F, H, W, 3\)"):
        model("fp32").prepare(frames, "a ball", 8.0)


def test_a_prompt_per_video_is_needed() -> None:
    with pytest.raises(InputError, match=r"with 1 prompts; expected \(B, F, H, W, 3\) and B"):
        model("fp32").score_frames(torch.zeros(2, 4, 32, 32, 3), ["a ball"], 8.0)


def test_a_prompt_with_a_reward_token_is_refused() -> None:
    with pytest.raises(InputError, match=r"holds <\|MQ_reward\|>"):
        model("fp32").prepare(goldens.clip("clip_b").frames_FHWC, "a <|MQ_reward|> ball", 24.0)
