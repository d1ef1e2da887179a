"""The Qwen2-VL variant, for which there are no reference values, against a second computation step by step."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file
from tokenizers import Tokenizer
from transformers import Qwen2VLConfig, Qwen2VLModel

from policies.errors import InputError
from policies.rewards.published import PublishedFolder
from policies.rewards.videoscore.qwen2_vl_reader import Qwen2VLReader, most_pixels, processor_rules
from policies.rewards.videoscore.template import DIMENSIONS, query_text
from tests.policies.rewards import goldens
from tests.policies.rewards.videoscore.checkpoints import LABEL_TOKENS, load, write_qwen2_vl

SMALL = {"min_pixels": 28 * 28, "max_pixels": 40 * 28 * 28}  # the processor shrinks what was enlarged before
PROMPT = "  Two {paper} boats, 50% speed "
FRAMES = goldens.clip("clip_b").frames_FHWC[:10, ::2, ::2]  # 192x344; at 24 in a second 10 frames become 4
FPS = 24.0


def second_computation(folder: Path, *, positions: str = "flat") -> torch.Tensor:
    """Scores (5,) by transformers' Qwen2VLModel, Pillow, and the reference's rules written out for FRAMES."""
    frames = torch.from_numpy(FRAMES[[0, 3, 6, 9]]).permute(0, 3, 1, 2)
    # 192x344 is 66048 pixels: enlarged to at least 100352, in multiples of 28
    first = F.interpolate(frames.float(), (252, 448), mode="bicubic", antialias=True).round().clamp(0, 255)
    # the processor allows 31360 pixels: sqrt(252 * 448 / 31360) = 1.897
    second = [
        Image.fromarray(frame.permute(1, 2, 0).byte().numpy()).resize((224, 112), Image.Resampling.BICUBIC)
        for frame in first
    ]
    mean, std = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
    pixels = ((np.stack([np.asarray(frame) for frame in second]) / 255 - mean) / std).transpose(0, 3, 1, 2)
    grid = (2, 112 // 14, 224 // 14)
    patches = pixels.reshape(2, 2, 3, grid[1] // 2, 2, 14, grid[2] // 2, 2, 14).transpose(0, 3, 6, 4, 7, 2, 1, 5, 8)
    text = (
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n<|vision_start|>"
        + "<|video_pad|>" * (2 * 4 * 8)
        + f"<|vision_end|>{query_text(PROMPT, reserved=())}<|im_end|>\n<|im_start|>assistant\n"
    )
    ids = torch.tensor([Tokenizer.from_file(str(folder / "tokenizer.json")).encode(text).ids])
    config = Qwen2VLConfig.from_dict(json.loads((folder / "config.json").read_text()))
    model = Qwen2VLModel(config).float().eval()
    weights = load_file(folder / "model.safetensors")
    names = {name: name.replace("model.", "language_model.") for name in weights if not name.startswith("score")}
    model.load_state_dict({new: weights[old] for old, new in names.items()})
    grids = torch.tensor([grid])
    flat = torch.arange(ids.shape[1]).expand(3, 1, -1)
    types = (ids == config.video_token_id).int() * 2
    in_space = model.get_rope_index(ids, types, video_grid_thw=grids)[0]
    with torch.no_grad():
        hidden = model(
            input_ids=ids,
            position_ids=flat if positions == "flat" else in_space,
            pixel_values_videos=torch.from_numpy(patches.reshape(-1, 3 * 2 * 14 * 14)).float(),
            video_grid_thw=grids,
        ).last_hidden_state[0, -1]
    return F.linear(hidden, weights["score.weight"], weights["score.bias"])


def score(folder: Path, dtype: str = "float32") -> torch.Tensor:
    model = load(folder, dtype=dtype)
    return model.score([model.prepare(FRAMES, PROMPT, FPS)])[0]


def test_scores_are_those_of_a_second_computation(tmp_path: Path) -> None:
    folder = write_qwen2_vl(tmp_path / "model", **SMALL)
    expected = second_computation(folder)
    torch.testing.assert_close(score(folder), expected, rtol=1e-5, atol=1e-5)
    assert (score(folder, "bfloat16") - expected).abs().max() < 0.02 * expected.abs().max()


def test_positions_in_space_and_time_would_give_other_scores(tmp_path: Path) -> None:
    folder = write_qwen2_vl(tmp_path / "model", **SMALL)
    assert (score(folder) - second_computation(folder, positions="3-D")).abs().max() > 1e-3


def test_each_dimension_is_read_at_its_own_token(tmp_path: Path) -> None:
    folder = write_qwen2_vl(tmp_path / "model", has_labels=True, **SMALL)
    model = load(folder)
    weights = load_file(folder / "model.safetensors")
    clip = model.prepare(FRAMES, PROMPT, FPS)
    stages = model.stages(FRAMES, PROMPT, FPS)
    rows = stages["final_norm_at_label_tokens"]
    expected = [
        F.linear(torch.tensor(rows[name]), weights[f"score.{index}.weight"], weights[f"score.{index}.bias"]).item()
        for index, name in enumerate(DIMENSIONS)
    ]
    assert model.score([clip])[0].tolist() == pytest.approx(expected, abs=1e-5)
    assert len({tuple(row) for row in rows.values()}) == 5
    labels = json.loads((folder / "config.json").read_text())["label_special_token_ids"]
    assert [clip.ids_L.tolist().count(label) for label in labels] == [1] * 5
    tail = "".join(f"The score for {name} is <|LABEL_{index}|>. " for index, name in enumerate(DIMENSIONS, 1))
    assert (
        Tokenizer.from_file(str(folder / "tokenizer.json"))
        .decode(clip.ids_L.tolist(), False)
        .endswith(f"<|vision_end|><|im_end|>\n<|im_start|>assistant\n{tail}<|im_end|>\n")
    )


@pytest.mark.parametrize("has_labels", [False, True])
def test_videos_of_any_length_and_size_in_one_call_score_as_alone(has_labels: bool, tmp_path: Path) -> None:
    model = load(write_qwen2_vl(tmp_path / "model", has_labels=has_labels, **SMALL))
    inputs = [
        model.prepare(FRAMES, PROMPT, FPS),
        model.prepare(FRAMES[:4], "a boat", FPS),
        model.prepare(FRAMES[:6, :, :100], "boats " * 9, FPS),
    ]
    alone = torch.cat([model.score([each]) for each in inputs])
    torch.testing.assert_close(model.score(inputs), alone, rtol=1e-5, atol=1e-6)


def test_frames_between_0_and_1_score_as_bytes_do_and_get_a_gradient(tmp_path: Path) -> None:
    model = load(write_qwen2_vl(tmp_path / "model", **SMALL))
    frames = torch.from_numpy(FRAMES).float()[None].div(255).requires_grad_()
    scores = model.score_frames(frames, [PROMPT], FPS)
    torch.testing.assert_close(scores[0].detach(), model.score([model.prepare(FRAMES, PROMPT, FPS)])[0])
    (gradient,) = torch.autograd.grad(scores.sum(), frames)
    assert gradient.isfinite().all()
    assert gradient[0].flatten(1).any(dim=1).tolist() == [index in (0, 3, 6, 9) for index in range(10)]


def reader(folder: Path, max_frames: int | None = None) -> Qwen2VLReader:
    published = PublishedFolder(path=folder, setting="reward.path", repository="a/b", revision=None)
    rules, limits = processor_rules(published)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    return Qwen2VLReader(tokenizer, source="it", rules=rules, limits=limits, max_frames=max_frames)


@pytest.mark.parametrize(
    ("total", "fps", "max_frames", "count"),
    [
        (45, 10.0, None, 36),
        (81, 16.0, None, 40),
        (10, 24.0, None, 4),
        (3, 24.0, None, 2),
        (5000, 8.0, None, 768),
        (81, 16.0, 17, 16),
        (81, 16.0, 100, 40),
        (81, 16.0, 1, 2),
    ],
)
def test_frames_are_8_a_second_in_pairs(
    total: int, fps: float, max_frames: int | None, count: int, tmp_path: Path
) -> None:
    indices = reader(write_qwen2_vl(tmp_path / "model"), max_frames).indices(total, fps)
    assert len(indices) == count and indices[0] == 0 and indices[-1] == total - 1


def test_one_frame_is_too_few(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the clip has 1 frame; VideoScore-Qwen2-VL needs at least 2"):
        reader(write_qwen2_vl(tmp_path / "model")).indices(1, 8.0)


def test_long_videos_have_smaller_frames() -> None:
    least = 128 * 784
    assert most_pixels(10, least) == 768 * 784
    assert most_pixels(128, least) == 24576 * 784 / 64
    assert most_pixels(700, least) == int(1.05 * least)


@pytest.mark.parametrize("token", ["<|video_pad|>", LABEL_TOKENS[2]])
def test_a_prompt_with_a_token_that_marks_a_place_is_refused(token: str, tmp_path: Path) -> None:
    model = load(write_qwen2_vl(tmp_path / "model", has_labels=True))
    with pytest.raises(InputError, match="which marks a place in the input; remove it"):
        model.prepare(FRAMES, f"a {token} boat", FPS)


def test_other_frame_rules_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"reward\.frame_rule benchmark is not known for VideoScore-Qwen2-VL"):
        load(write_qwen2_vl(tmp_path / "model"), frame_rule="benchmark")
