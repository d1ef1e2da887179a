"""VideoScore against the published reference, stage by stage. What the reference is: tests/goldens/README.md."""

from __future__ import annotations

import itertools
import json
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch

from policies.config import VideoScoreConfig
from policies.errors import InputError
from policies.rewards.model import RewardModel, load_reward_model
from tests.policies.rewards import goldens

EXPECTED = goldens.expected("videoscore")
ROWS = {"fp32": "float32", "bf16": "bfloat16"}
SCORES = {row: EXPECTED["tolerance"][f"logits_{row}_abs"] for row in ROWS}
HIDDEN = {"fp32": EXPECTED["tolerance"]["hidden_fp32_abs"], "bf16": 0.07}
FOLDER = goldens.FOLDER / "videoscore" / "VideoScore"

both = pytest.mark.parametrize(("row", "name"), list(itertools.product(ROWS, goldens.CLIPS)))


@cache
def model(row: str = "fp32", **settings: Any) -> RewardModel:
    config = VideoScoreConfig.model_validate({"path": str(FOLDER), "dtype": ROWS[row], **settings})
    return load_reward_model(config, device="cpu")


def prepared(loaded: RewardModel, name: str) -> Any:
    clip = goldens.clip(name)
    return loaded.prepare(clip.frames_FHWC, goldens.prompt(name), clip.fps)


def named(loaded: RewardModel, scores_D: torch.Tensor) -> dict[str, float]:
    return dict(zip(loaded.dimensions, scores_D.tolist(), strict=True))


@cache
def raw(row: str, name: str) -> torch.Tensor:
    return model(row).score([prepared(model(row), name)])[0]


@cache
def stages(row: str, name: str) -> dict[str, Any]:
    clip = goldens.clip(name)
    return model(row).stages(clip.frames_FHWC, goldens.prompt(name), clip.fps)


def published_sums() -> dict[str, str]:
    lines = [line.split() for line in (goldens.FOLDER / "sha256sums.txt").read_text().splitlines()]
    return {name.removeprefix("videoscore/VideoScore/"): digest for digest, name in lines}


def flat(values: Any, at: str = "") -> dict[str, Any]:
    """Every value of nested dictionaries and lists by its path."""
    if not isinstance(values, dict | list):
        return {at: values}
    items = values.items() if isinstance(values, dict) else enumerate(values)
    return {path: number for key, value in items for path, number in flat(value, f"{at}/{key}").items()}


@both
def test_scores_are_the_references(row: str, name: str) -> None:
    expected = EXPECTED["clips"][name]["scores"][row]
    scores = named(model(row), raw(row, name))
    assert scores == pytest.approx(expected["logits"], abs=SCORES[row])
    assert model(row).overall(scores) == pytest.approx(expected["mean_of_5"], abs=SCORES[row])


@pytest.mark.slow
@both
def test_hidden_states_and_scores_among_the_stages_are_the_references(row: str, name: str) -> None:
    found, expected = stages(row, name), EXPECTED["clips"][name]["scores"][row]
    wanted = flat({**expected["stages"], "logits": expected["logits"], "mean_of_5": expected["mean_of_5"]})
    assert wanted.keys() <= flat(found).keys()
    assert {key: flat(found)[key] for key in wanted} == pytest.approx(wanted, abs=HIDDEN[row])


@pytest.mark.parametrize("name", goldens.CLIPS)
def test_stages_before_the_network_are_the_references(name: str) -> None:
    found, expected = stages("fp32", name), EXPECTED["clips"][name]
    for part in ("sampling", "text", "tokens"):
        assert {key: found[part][key] for key in expected[part]} == expected[part]
    assert flat({key: found["frames"][key] for key in expected["frames"]}) == pytest.approx(flat(expected["frames"]))
    pixels = expected["pixels"]
    assert flat({key: found["pixels"][key] for key in pixels}) == pytest.approx(flat(pixels), abs=1e-6)
    json.dumps(found, allow_nan=False)


@pytest.mark.parametrize("row", ROWS)
def test_preferences_are_the_references(row: str) -> None:
    pairs = [pair for pair in EXPECTED["pairwise"] if pair["precision"] == row]
    assert len(pairs) == 3
    for pair in pairs:
        first, second = (named(model(row), raw(row, pair[side])) for side in "AB")
        difference = model(row).overall(first) - model(row).overall(second)
        assert difference == pytest.approx(pair["mean_of_5"]["difference"], abs=2 * SCORES[row])
        for dimension in model(row).dimensions:
            expected = pair[dimension]
            assert first[dimension] - second[dimension] == pytest.approx(expected["difference"], abs=2 * SCORES[row])
            if abs(expected["difference"]) > 2 * SCORES[row]:
                assert ("A" if first[dimension] > second[dimension] else "B") == expected["preferred"]


@pytest.mark.parametrize("name", ["clip_b", pytest.param("clip_c", marks=pytest.mark.slow)])
def test_the_benchmark_rule_gives_the_references_scores(name: str) -> None:
    loaded = model(frame_rule="benchmark")
    expected = EXPECTED["benchmark_frame_rule"][name]["rounded_3_fp32"]
    assert loaded.score([prepared(loaded, name)])[0].tolist() == pytest.approx(expected, abs=6e-4)


def test_48_frames_give_the_references_scores() -> None:
    loaded = model(max_frames=48)
    expected = EXPECTED["other_frame_limit_fp32"]["clips"]["clip_a"]["logits"]
    assert named(loaded, loaded.score([prepared(loaded, "clip_a")])[0]) == pytest.approx(expected, abs=SCORES["fp32"])


@pytest.mark.slow
@pytest.mark.parametrize("micro_batch_pixels", [1, 5_000_000, 100_000_000])
def test_videos_of_any_length_and_size_in_one_call_score_as_alone(micro_batch_pixels: int) -> None:
    loaded = model(micro_batch_pixels=micro_batch_pixels)
    short = loaded.prepare(goldens.clip("clip_b").frames_FHWC[:3], "two boats", 24.0)
    inputs = [*(prepared(loaded, name) for name in goldens.CLIPS), short]
    alone = torch.stack([*(raw("fp32", name) for name in goldens.CLIPS), loaded.score([short])[0]])
    torch.testing.assert_close(loaded.score(inputs), alone, rtol=1e-5, atol=0)


@pytest.mark.parametrize("name", goldens.CLIPS)
def test_frames_between_0_and_1_score_as_bytes_do(name: str) -> None:
    clip = goldens.clip(name)
    frames = torch.from_numpy(clip.frames_FHWC).float()[None] / 255
    with torch.no_grad():
        scores = model().score_frames(frames, [goldens.prompt(name)], clip.fps)
    torch.testing.assert_close(scores[0], raw("fp32", name), rtol=1e-6, atol=0)


def test_scores_are_differentiable_with_respect_to_frames() -> None:
    frames = torch.from_numpy(np.stack([goldens.clip("clip_b").frames_FHWC[:2, ::4, ::4]] * 2)).float() / 255
    frames[1] = 1 - frames[1]
    frames.requires_grad_()
    scores = model().score_frames(frames, ["a boat", "two boats"], 24.0)
    (gradient,) = torch.autograd.grad(scores[0].sum(), frames)
    assert gradient[0].isfinite().all() and gradient[0].abs().max() > 0
    assert not gradient[1].any()  # a video's score depends on no other
    step = 0.02 * gradient.sign()
    with torch.no_grad():
        raised = model().score_frames((frames + step).clamp(0, 1), ["a boat", "two boats"], 24.0)
    assert raised[0].sum() > scores[0].sum()


def test_raw_scores_are_on_the_published_scale_and_the_overall_score_is_the_mean() -> None:
    assert model().own_scale is None
    scores = dict(zip(model().dimensions, [1.0, 2.0, 3.0, 4.0, -2.0], strict=True))
    assert model().overall(scores) == 1.6


def test_cost_is_the_pixels_after_sampling_and_resizing() -> None:
    assert model().cost(prepared(model(), "clip_a")) == 16 * 378 * 378


def test_files_are_those_that_scores_depend_on_and_the_revision_changes_with_settings() -> None:
    assert sorted(model().files) == [
        "config.json",
        "model.safetensors",
        "preprocessor_config.json",
        "processor_config.json",
        "tokenizer.json",
    ]
    assert model().files.items() <= published_sums().items()
    revisions = {model().revision, model("bf16").revision, model(max_frames=48).revision}
    assert len(revisions | {model(frame_rule="benchmark").revision}) == 4
    assert model(micro_batch_pixels=1).revision == model().revision


@pytest.mark.parametrize(
    "frames", [np.zeros((4, 8, 8, 3), np.float32), np.zeros((8, 8, 3), np.uint8), np.zeros((4, 8, 8, 4), np.uint8)]
)
def test_frames_of_another_layout_are_refused(frames: np.ndarray) -> None:
    with pytest.raises(InputError, match=r"expected uint8 \(F, H, W, 3\)"):
        model().prepare(frames, "a ball", 8.0)


def test_a_clip_without_frames_is_refused() -> None:
    with pytest.raises(InputError, match="the clip has 0 frames"):
        model().prepare(np.zeros((0, 8, 8, 3), np.uint8), "a ball", 8.0)


def test_a_prompt_per_video_is_needed() -> None:
    with pytest.raises(InputError, match=r"with 1 prompts; expected \(B, F, H, W, 3\) and B"):
        model().score_frames(torch.zeros(2, 4, 32, 32, 3), ["a ball"], 8.0)


def test_a_prompt_with_an_image_token_is_refused() -> None:
    with pytest.raises(InputError, match="holds <image>"):
        model().prepare(goldens.clip("clip_b").frames_FHWC, "a <image> ball", 24.0)
