import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch

from policies.config import RewardConfig
from policies.errors import InputError
from policies.rewards.model import RewardModel, load_reward_model
from policies.shapes.reward import ShapesRewardModel, new_reward_model
from policies.shapes.world import NUM_FRAMES, SIZE

PROMPTS = ["a red circle moving left slowly", "a blue square moving right quickly"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained reward model, saved as the bundled one is."""
    path = tmp_path_factory.mktemp("reward")
    new_reward_model(seed=0).save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def model(folder: Path) -> RewardModel:
    return load_reward_model(RewardConfig(path=str(folder)), device="cpu")


def clip(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (NUM_FRAMES, SIZE, SIZE, 3), np.uint8)


def test_an_unknown_model_is_refused_with_the_known_ones() -> None:
    with pytest.raises(InputError, match=r"'videoscore7'.*known ones are: shapes"):
        load_reward_model(RewardConfig.model_construct(model="videoscore7"), device="cpu")


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


def test_score_frames_is_differentiable_with_respect_to_frames_only(model: RewardModel) -> None:
    frames = (torch.tensor(clip(0)).float() / 255)[None].requires_grad_()
    torch.autograd.backward(model.score_frames(frames, PROMPTS[:1]).sum())
    assert frames.grad is not None and frames.grad.abs().sum() > 0


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
        load_reward_model(RewardConfig(path=str(tmp_path / "missing")), device="cpu")
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x04K\x01.")
    with pytest.raises(InputError, match=r"holds no model\.safetensors"):
        load_reward_model(RewardConfig(path=str(tmp_path)), device="cpu")


def test_a_pickle_under_the_name_of_safetensors_is_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    (tmp_path / "model.safetensors").write_bytes(b"\x80\x04K\x01." * 100)
    with pytest.raises(InputError, match="no shapes reward model"):
        load_reward_model(RewardConfig(path=str(tmp_path)), device="cpu")
