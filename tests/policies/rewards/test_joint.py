import math
from pathlib import Path

import numpy as np
import pytest
import torch

from policies.calibration import Calibration, Reward, check_weights
from policies.config import RewardModelConfig, ShapesRewardConfig
from policies.errors import InputError
from policies.rewards.joint import JointReward
from policies.rewards.model import REWARD_MODELS, RewardModel, load_reward_model
from policies.shapes.reward import new_reward_model
from tests.policies.rewards.brightness import Brightness, BrightnessConfig

PROMPTS = ["a red circle moving left slowly", "a blue square moving right quickly"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("reward")
    new_reward_model(seed=0).save_pretrained(path)
    return path


def config_of(folder: Path, **settings: object) -> RewardModelConfig:
    """The bundled reward and one that is not trained."""
    return ShapesRewardConfig.model_validate({"also": ({"model": "shapes", "path": str(folder)},), **settings})


@pytest.fixture(scope="module")
def joint(folder: Path) -> RewardModel:
    return load_reward_model(config_of(folder), device="cpu")


def clip(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (9, 32, 32, 3), np.uint8)


def test_dimensions_are_those_of_each_model_under_its_name(joint: RewardModel) -> None:
    assert joint.dimensions == (
        "shapes.VQ", "shapes.MQ", "shapes.TA", "shapes-2.VQ", "shapes-2.MQ", "shapes-2.TA",
    )  # fmt: skip
    assert joint.name == "shapes+shapes-2"


def test_scores_are_those_of_each_model_alone(joint: RewardModel, folder: Path) -> None:
    alone = [load_reward_model(ShapesRewardConfig(path=path), device="cpu") for path in (None, str(folder))]
    expected = torch.cat(
        [model.score([model.prepare(clip(i), PROMPTS[i], 8.0) for i in range(2)]) for model in alone], dim=1
    )
    inputs = [joint.prepare(clip(i), PROMPTS[i], 8.0) for i in range(2)]
    assert torch.equal(joint.score(inputs), expected)
    assert joint.cost(inputs[0]) == 2 * alone[0].cost(alone[0].prepare(clip(0), PROMPTS[0], 8.0))
    frames = torch.tensor(np.stack([clip(0), clip(1)])).float().div(255).requires_grad_()
    scores = joint.score_frames(frames, PROMPTS, 8.0)
    assert torch.equal(scores, expected)
    torch.autograd.backward(scores.sum())
    assert frames.grad is not None and frames.grad.abs().sum() > 0


def test_files_and_revision_tell_every_model(joint: RewardModel, folder: Path) -> None:
    assert set(joint.files) == {
        f"{label}/{name}" for label in ("shapes", "shapes-2") for name in ("config.json", "model.safetensors")
    }
    assert joint.files["shapes/model.safetensors"] != joint.files["shapes-2/model.safetensors"]
    turned = ShapesRewardConfig(path=str(folder), also=(ShapesRewardConfig(),))
    assert load_reward_model(turned, device="cpu").revision != joint.revision


def test_a_model_without_a_scale_of_its_own_keeps_its_scores_beside_one_that_has_one() -> None:
    bright = Brightness(BrightnessConfig())
    plain = Brightness(BrightnessConfig())
    plain.own_scale = None
    scale = JointReward({"a": bright, "b": plain}).own_scale
    assert scale is not None and scale.normalise({"a.mean": 0.75, "b.mean": 0.75}) == {
        "a.mean": pytest.approx(2.5), "b.mean": 0.75,
    }  # fmt: skip
    assert JointReward({"a": plain, "b": plain}).own_scale is None


def test_overall_is_the_mean_over_models_and_stages_are_each_ones(joint: RewardModel) -> None:
    values = dict(zip(joint.dimensions, (1.0, 2.0, 3.0, 10.0, 20.0, 30.0), strict=True))
    assert joint.overall(values) == (2 + 20) / 2
    assert set(joint.stages(clip(0), PROMPTS[0], 8.0)) == {"shapes", "shapes-2"}


def test_what_one_model_cannot_judge_has_no_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(REWARD_MODELS, "brightness", (Brightness.__module__, "Brightness"))
    config = BrightnessConfig(also=(ShapesRewardConfig(),))
    model = load_reward_model(config, device="cpu")
    model.prepare(clip(0), PROMPTS[0], 8.0)
    with pytest.raises(InputError, match="a cat"):
        model.prepare(clip(0), "a cat", 8.0)


def test_each_section_weighs_the_dimensions_of_its_own_model(folder: Path) -> None:
    names = ("shapes.VQ", "shapes.MQ", "shapes.TA", "shapes-2.VQ", "shapes-2.MQ", "shapes-2.TA")
    config = config_of(
        folder, weights={"VQ": 2.0}, combine="weighted_sum",
        also=({"model": "shapes", "path": str(folder), "weights": {"MQ": -1.0}},),
    )  # fmt: skip
    scores = dict(zip(names, (1.0, 10.0, 100.0, 1000.0, 10_000.0, 100_000.0), strict=True))
    assert Reward.of(config, dimensions=names)(scores) == 2.0 - 10_000.0
    everything = config_of(folder, combine="weighted_sum")
    assert Reward.of(everything, dimensions=names)(scores) == sum(scores.values())


def test_mean_z_is_taken_over_the_dimensions_of_all_models(folder: Path) -> None:
    names = ("shapes.VQ", "shapes-2.VQ")
    calibration = Calibration.fit([{"shapes.VQ": value, "shapes-2.VQ": 100 * value} for value in (1.0, 2.0, 3.0)])
    reward = Reward.of(config_of(folder), dimensions=names, calibration=calibration)
    assert reward({"shapes.VQ": 3.0, "shapes-2.VQ": 200.0}) == pytest.approx((1 + 0) / 2)


def test_a_weight_on_what_a_model_does_not_have_is_named_with_its_model(folder: Path) -> None:
    config = config_of(folder, also=({"model": "shapes", "weights": {"VX": 1.0}},))
    with pytest.raises(InputError, match=r"names shapes-2\.VX, but the model's dimensions are shapes\.VQ"):
        check_weights(config, ("shapes.VQ", "shapes-2.VQ"))
    check_weights(config_of(folder), ("shapes.VQ", "shapes-2.VQ"))


def test_own_scale_takes_the_constants_that_a_model_was_published_with() -> None:
    scale = Calibration(mean={"mean": 0.5}, std={"mean": 0.1})
    reward = Reward.of(BrightnessConfig(combine="own_scale"), dimensions=("mean",), calibration=scale)
    assert math.isclose(reward({"mean": 0.75}), 2.5)
