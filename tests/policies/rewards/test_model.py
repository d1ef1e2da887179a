import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from policies.config import RewardModelConfig, ShapesRewardConfig, VideoRewardConfig, VideoScoreConfig
from policies.errors import InputError
from policies.rewards.model import REWARD_MODELS, RewardModel, load_reward_model, normalised
from policies.shapes.reward import ShapesRewardModel, new_reward_model
from policies.shapes.world import NUM_FRAMES, SIZE
from tests.policies.rewards.brightness import Brightness, BrightnessConfig

PROMPTS = ["a red circle moving left slowly", "a blue square moving right quickly"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained reward model, saved as the bundled one is."""
    path = tmp_path_factory.mktemp("reward")
    new_reward_model(seed=0).save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def model(folder: Path) -> RewardModel:
    return load_reward_model(ShapesRewardConfig(path=str(folder)), device="cpu")


def clip(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (NUM_FRAMES, SIZE, SIZE, 3), np.uint8)


def test_a_new_model_is_a_class_a_config_and_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(REWARD_MODELS, "brightness", (Brightness.__module__, "Brightness"))
    model = load_reward_model(BrightnessConfig(offset=0.25), device="cpu")
    (score,) = model.score([model.prepare(np.full((2, 4, 4, 3), 255, np.uint8), "anything", 8.0)])
    assert score.tolist() == [1.25]
    assert normalised(model, {"mean": 1.25}) == {"mean": pytest.approx(7.5)}


@pytest.mark.parametrize("config", [ShapesRewardConfig, VideoRewardConfig, VideoScoreConfig])
def test_every_config_class_has_its_line(config: type[RewardModelConfig]) -> None:
    assert config.model_fields["model"].get_default() in REWARD_MODELS


def test_an_unknown_model_is_refused_with_the_known_ones() -> None:
    with pytest.raises(InputError, match=r"'videoscore7'.*known ones are: shapes, videoreward, videoscore"):
        load_reward_model(ShapesRewardConfig.model_construct(model="videoscore7"), device="cpu")


def test_shapes_has_three_dimensions_and_its_weights_as_revision(model: RewardModel, folder: Path) -> None:
    assert model.name == "shapes" and model.dimensions == ("VQ", "MQ", "TA")
    assert model.revision == hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()


def test_scores_are_those_of_the_model_on_frames_between_0_and_1(model: RewardModel, folder: Path) -> None:
    scores = model.score([model.prepare(clip(i), prompt, 8.0) for i, prompt in enumerate(PROMPTS)])
    assert scores.shape == (2, 3) and scores.dtype == torch.float32 and not scores.requires_grad
    frames = torch.tensor(np.stack([clip(0), clip(1)])).float() / 255
    with torch.no_grad():
        expected = ShapesRewardModel.from_pretrained(folder).eval().score_frames(frames, PROMPTS)
    torch.testing.assert_close(scores, expected)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("size", [2, 3, 4, 7])
def test_a_clip_scores_the_same_alone_and_among_others(size: int, threads: int) -> None:
    """With the bundled weights; some of these scores are so near 0 that only equality to the last bits will do."""
    model = load_reward_model(ShapesRewardConfig(), device="cpu")
    inputs = [model.prepare(clip(i), PROMPTS[i % 2], 8.0) for i in range(16, 44)]
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        alone = torch.cat([model.score([one]) for one in inputs])
        together = torch.cat([model.score(inputs[i : i + size]) for i in range(0, len(inputs), size)])
    finally:
        torch.set_num_threads(before)
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=0)


def test_frames_with_a_gradient_score_as_uint8_frames_do(model: RewardModel) -> None:
    frames = (torch.tensor(clip(0)).float() / 255)[None].requires_grad_()
    scores = model.score_frames(frames, PROMPTS[:1], 8.0)
    assert torch.equal(scores, model.score([model.prepare(clip(0), PROMPTS[0], 8.0)]))


def test_score_frames_is_differentiable_with_respect_to_frames_only(model: RewardModel) -> None:
    frames = (torch.tensor(clip(0)).float() / 255)[None].requires_grad_()
    torch.autograd.backward(model.score_frames(frames, PROMPTS[:1], 8.0).sum())
    assert frames.grad is not None and frames.grad.abs().sum() > 0


def test_files_are_hashed_and_the_scale_is_its_own_scores(model: RewardModel, folder: Path) -> None:
    assert set(model.files) == {"config.json", "model.safetensors"}
    assert model.files["config.json"] == hashlib.sha256((folder / "config.json").read_bytes()).hexdigest()
    raw = {"VQ": 1.0, "MQ": 2.0, "TA": 6.0}
    assert normalised(model, raw) == raw and model.overall(raw) == 3.0
    assert model.cost(model.prepare(clip(0), PROMPTS[0], 8.0)) == NUM_FRAMES * SIZE * SIZE


def test_stages_are_json_and_end_with_the_scores(model: RewardModel) -> None:
    stages = model.stages(clip(0), PROMPTS[0], 8.0)
    expected = model.score([model.prepare(clip(0), PROMPTS[0], 8.0)])[0].tolist()
    assert json.loads(json.dumps(stages))["raw"] == expected


def test_read_only_frames_are_taken(model: RewardModel) -> None:
    frames = clip(0)
    frames.flags.writeable = False
    model.prepare(frames, PROMPTS[0], 8.0)


@pytest.mark.parametrize("frames", [clip(0)[:5], clip(0)[:, :16], clip(0).astype(np.float32), clip(0)[None]])
def test_frames_of_another_type_or_size_are_refused(model: RewardModel, frames: np.ndarray) -> None:
    with pytest.raises(InputError, match="takes uint8"):
        model.prepare(frames, PROMPTS[0], 8.0)


def test_a_prompt_of_another_world_is_refused_before_the_forward(model: RewardModel) -> None:
    with pytest.raises(InputError):
        model.prepare(clip(0), "a cat on a skateboard", 8.0)


def test_a_folder_without_safetensors_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no model\.safetensors"):
        load_reward_model(ShapesRewardConfig(path=str(tmp_path / "missing")), device="cpu")
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x04K\x01.")
    with pytest.raises(InputError, match=r"holds no model\.safetensors"):
        load_reward_model(ShapesRewardConfig(path=str(tmp_path)), device="cpu")


def test_a_pickle_under_the_name_of_safetensors_is_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    (tmp_path / "model.safetensors").write_bytes(b"\x80\x04K\x01." * 100)
    with pytest.raises(InputError, match="no shapes reward model"):
        load_reward_model(ShapesRewardConfig(path=str(tmp_path)), device="cpu")
