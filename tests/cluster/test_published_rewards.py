"""Runs whose reward is a published reward model, by configuration alone: tiny checkpoints in the published layouts."""

import hashlib
import json
import math
import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from cluster.config import RunConfig
from cluster.controller import resume, run
from cluster.in_process import InProcessPlacement
from cluster.observer import SilentObserver
from cluster.parts import sampling_of, shape_of
from cluster.run_directory import RunDirectory
from policies.config import RewardModelConfig
from policies.rewards.model import load_reward_model
from policies.types import Prompt, SampleRequest
from tests.cluster.crashes import identity, same_state, tiny

pytestmark = pytest.mark.slow

GOLDENS = Path(__file__).parents[1] / "goldens"
VIDEOREWARD = {
    "model": "videoreward",
    "path": str(GOLDENS / "videoreward" / "VideoReward"),
    "base": str(GOLDENS / "videoreward" / "base"),
}
VIDEOSCORE = {"model": "videoscore", "path": str(GOLDENS / "videoscore" / "VideoScore")}
REWARDS = {"videoreward": VIDEOREWARD, "videoscore": VIDEOSCORE}
WEIGHTS = {
    "videoreward": ("checkpoint-11352/model.pth", "videoreward/VideoReward/checkpoint-11352/model.pth"),
    "videoscore": ("model.safetensors", "videoscore/VideoScore/model.safetensors"),
}
FPS = 8.0


class StopAt(SilentObserver):
    """Interrupts this process after an update."""

    def __init__(self, update: int) -> None:
        self._update = update

    def on_update(self, line: Mapping[str, Any]) -> None:
        if line["update"] == self._update:
            os.kill(os.getpid(), signal.SIGINT)


def config_of(folder: Path, run_id: str, reward: Mapping[str, Any], *, mode: str = "in_process") -> RunConfig:
    section = {"calibration_samples": 4, **reward}
    return tiny(folder, run_id=run_id, mode=mode, updates=2, checkpoint={"interval_updates": 1}, reward=section)


def groups(run_dir: Path) -> list[dict[str, Any]]:
    return [json.loads(file.read_text()) for file in sorted(run_dir.glob("groups/*/*.json"))]


def reward_of(run_dir: Path) -> RewardModelConfig:
    return RunDirectory(run_dir).read_config().reward


@pytest.fixture(scope="module", params=["videoreward", "videoscore"])
def done(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = config_of(tmp_path_factory.mktemp("runs"), request.param, REWARDS[request.param])
    result = run(config, observer=SilentObserver())
    assert result.ended == "completed"
    return result.run_dir


def test_every_update_trains_on_pairs_that_the_model_ranked(done: Path) -> None:
    lines = list(RunDirectory(done).read_metrics())
    assert len(lines) == 2
    for line in lines:
        assert line["unscored"] == line["dropped"] == 0 and len(line["pairs"]) == 2
        assert math.isfinite(line["loss"])
        assert all(pair["chosen_reward"] > pair["rejected_reward"] for pair in line["pairs"])


def test_scores_are_finite_and_recorded_with_revision_and_hashes(done: Path) -> None:
    model = load_reward_model(reward_of(done), device="cpu")
    name, file = WEIGHTS[model.name]
    digest = hashlib.sha256((GOLDENS / file).read_bytes()).hexdigest()
    assert len(groups(done)) == 4
    for group in groups(done):
        recorded = group["reward_model"]
        assert (recorded["name"], recorded["revision"]) == (model.name, model.revision)
        assert recorded["files"] == dict(model.files) and recorded["files"][name] == digest
        for member in group["members"]:
            assert tuple(member["scores"]) == model.dimensions
            assert all(map(math.isfinite, (*member["scores"].values(), member["reward"])))


async def test_the_model_sees_the_frames_of_the_policy_at_their_own_size_and_rate(done: Path) -> None:
    config, group = RunDirectory(done).read_config(), groups(done)[0]
    placement = InProcessPlacement(config, done)
    prompt = Prompt(id=group["prompt"]["id"], text=group["prompt"]["text"])
    seeds = tuple(member["seed"] for member in group["members"])
    drawn = await placement.generator.sample(
        SampleRequest(
            group_id=group["group_id"], prompt=prompt, shape=shape_of(config), seeds=seeds,
            policy_version=group["policy_version"], sampling=sampling_of(config),
        )
    )  # fmt: skip
    model = load_reward_model(config.reward, device="cpu")

    def scores(candidate: Any, fps: float) -> dict[str, float]:
        (row,) = model.score([model.prepare(candidate.frames, prompt.text, fps)]).tolist()
        return dict(zip(model.dimensions, row, strict=True))

    for candidate, member in zip(drawn, group["members"], strict=True):
        assert candidate.frames.shape == (9, 32, 32, 3)
        assert scores(candidate, FPS) == pytest.approx(member["scores"], rel=1e-5)
    if model.name == "videoreward":  # it takes two frames a second, and at least four
        assert scores(drawn[0], FPS / 4) != pytest.approx(group["members"][0]["scores"], rel=1e-3)


def test_a_stopped_run_is_resumed_to_the_same_run(done: Path, tmp_path: Path) -> None:
    stopped = run(config_of(tmp_path, done.name, REWARDS[done.name]), observer=StopAt(0))
    assert stopped.ended == "stopped_sigint" and stopped.updates == 1
    assert resume(stopped.run_dir, observer=SilentObserver()).ended == "completed"
    assert identity(stopped.run_dir) == identity(done)
    assert same_state(stopped.run_dir, done)


def test_the_reward_can_be_both_and_the_bundled_one_on_their_own_scales(tmp_path: Path) -> None:
    also = [{**VIDEOSCORE, "weights": {"dynamic degree": 0.5}}, {"model": "shapes", "weights": {"TA": 2.0}}]
    reward = {**VIDEOREWARD, "weights": {"MQ": 1.0}, "combine": "own_scale", "also": also}
    result = run(config_of(tmp_path, "all", reward), observer=SilentObserver())
    constants = json.loads((Path(VIDEOREWARD["path"]) / "model_config.json").read_text())["inference_config"]
    for group in groups(result.run_dir):
        assert group["reward_model"]["name"] == "videoreward+videoscore+shapes"
        for member in group["members"]:
            scores = member["scores"]
            motion = (scores["videoreward.MQ"] - constants["MQ_mean"]) / constants["MQ_std"]
            expected = motion + 0.5 * scores["videoscore.dynamic degree"] + 2 * scores["shapes.TA"]
            assert member["reward"] == pytest.approx(expected / 3.5)


@pytest.mark.ray
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning")
def test_on_ray_the_run_is_the_same(done: Path, tmp_path: Path) -> None:
    result = run(config_of(tmp_path, "split", REWARDS[done.name], mode="split"), observer=SilentObserver())
    assert result.ended == "completed"
    assert identity(result.run_dir) == identity(done)
    assert [group["reward_model"] for group in groups(result.run_dir)] == [
        group["reward_model"] for group in groups(done)
    ]
