"""A run whose reward is made of two reward models: the bundled one, and one that nobody trained."""

import json
import os
import shutil
import signal
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from cluster.config import RunConfig
from cluster.controller import resume, run
from cluster.observer import SilentObserver
from cluster.run_directory import RunDirectory
from policies.errors import InputError
from policies.rewards.model import load_reward_model
from policies.shapes.reward import new_reward_model
from tests.cluster.crashes import identity, same_state, tiny

pytestmark = pytest.mark.slow

NAMES = {f"{label}.{name}" for label in ("shapes", "shapes-2") for name in ("VQ", "MQ", "TA")}


class StopAt(SilentObserver):
    """Interrupts this process after an update."""

    def __init__(self, update: int) -> None:
        self._update = update

    def on_update(self, line: Mapping[str, Any]) -> None:
        if line["update"] == self._update:
            os.kill(os.getpid(), signal.SIGINT)


@pytest.fixture(scope="module")
def reward_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("reward")
    new_reward_model(seed=0).save_pretrained(path)
    return path


def config_of(folder: Path, reward_folder: Path, *, run_id: str, mode: str = "in_process", **reward: Any) -> RunConfig:
    other = {"model": "shapes", "path": str(reward_folder), "weights": {"VQ": 2.0}}
    return tiny(folder, run_id=run_id, mode=mode, updates=4, reward={"weights": {"TA": 1.0}, "also": [other], **reward})


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, reward_folder: Path) -> Path:
    return run(
        config_of(tmp_path_factory.mktemp("runs"), reward_folder, run_id="whole"), observer=SilentObserver()
    ).run_dir


def groups(run_dir: Path) -> list[dict[str, Any]]:
    return [json.loads(file.read_text()) for file in sorted(run_dir.glob("groups/*/*.json"))]


def test_every_group_has_the_scores_of_both_and_says_which_models_gave_them(whole: Path, reward_folder: Path) -> None:
    model = load_reward_model(RunDirectory(whole).read_config().reward, device="cpu")
    assert len(groups(whole)) == 8
    for group in groups(whole):
        assert all(set(member["scores"]) == NAMES for member in group["members"])
        assert group["reward_model"] == {
            "name": "shapes+shapes-2", "revision": model.revision, "files": dict(model.files),
        }  # fmt: skip


def test_rewards_are_weighted_z_scores_on_samples_of_the_initial_policy(whole: Path) -> None:
    calibration = json.loads((whole / "calibration.json").read_text())
    assert set(calibration["mean"]) == NAMES and calibration["samples"] == 8
    mean, std = calibration["mean"], calibration["std"]
    for group in groups(whole):
        for member in group["members"]:
            z = {name: (score - mean[name]) / std[name] for name, score in member["scores"].items()}
            assert member["reward"] == pytest.approx((z["shapes.TA"] + 2 * z["shapes-2.VQ"]) / 3)
    for line in RunDirectory(whole).read_metrics():
        assert set(line["scores"]) == NAMES and line["loss"] is not None


def test_a_stopped_run_is_resumed_to_the_same_run(whole: Path, tmp_path: Path, reward_folder: Path) -> None:
    stopped = run(config_of(tmp_path, reward_folder, run_id="stopped"), observer=StopAt(1))
    assert stopped.ended == "stopped_sigint"
    assert resume(stopped.run_dir, observer=SilentObserver()).ended == "completed"
    assert identity(stopped.run_dir) == identity(whole)
    assert same_state(stopped.run_dir, whole)


def test_a_reward_model_that_changed_since_the_run_began_is_refused(tmp_path: Path) -> None:
    new_reward_model(seed=0).save_pretrained(tmp_path / "reward")
    stopped = run(config_of(tmp_path / "runs", tmp_path / "reward", run_id="stopped"), observer=StopAt(1))
    shutil.rmtree(tmp_path / "reward")
    new_reward_model(seed=1).save_pretrained(tmp_path / "reward")
    with pytest.raises(InputError, match=r"the run began with .* \(changed: shapes-2/model\.safetensors\)"):
        resume(stopped.run_dir, observer=SilentObserver())
    assert stopped.run_dir.is_dir()


def test_own_scale_is_the_scale_of_the_run(tmp_path: Path, reward_folder: Path) -> None:
    """The bundled model has none, so that its scores stay as they are."""
    done = run(config_of(tmp_path, reward_folder, run_id="own", combine="own_scale"), observer=SilentObserver())
    calibration = json.loads((done.run_dir / "calibration.json").read_text())
    assert calibration == {"mean": dict.fromkeys(NAMES, 0.0), "std": dict.fromkeys(NAMES, 1.0), "samples": 0}
    member = groups(done.run_dir)[0]["members"][0]
    scores = member["scores"]
    assert member["reward"] == pytest.approx((scores["shapes.TA"] + 2 * scores["shapes-2.VQ"]) / 3)


def test_an_unknown_dimension_is_told_before_anything_is_drawn(tmp_path: Path, reward_folder: Path) -> None:
    config = config_of(tmp_path, reward_folder, run_id="bad", weights={"VX": 1.0})
    with pytest.raises(InputError, match=r"names shapes\.VX"):
        run(config, observer=SilentObserver())
    assert not (tmp_path / "bad").exists()


@pytest.mark.ray
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning")
def test_on_ray_the_run_is_the_same(whole: Path, tmp_path: Path, reward_folder: Path) -> None:
    done = run(config_of(tmp_path, reward_folder, run_id="split", mode="split"), observer=SilentObserver())
    assert done.ended == "completed"
    assert identity(done.run_dir) == identity(whole)
    assert [group["reward_model"] for group in groups(done.run_dir)] == [
        group["reward_model"] for group in groups(whole)
    ]
    rewards = [member["reward"] for group in groups(done.run_dir) for member in group["members"]]
    assert statistics.pstdev(rewards) > 0
