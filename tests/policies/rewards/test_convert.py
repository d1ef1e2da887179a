"""Published pickles to safetensors."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from policies.config import VideoRewardConfig
from policies.errors import InputError
from policies.rewards.convert import convert
from policies.rewards.videoreward.model import VideoReward
from tests.policies.rewards import goldens
from tests.policies.rewards.test_published import Canary

GOLDEN = goldens.FOLDER / "videoreward"
PICKLE = GOLDEN / "VideoReward" / "checkpoint-11352" / "model.pth"


def score(path: Path) -> list[float]:
    config = VideoRewardConfig(path=str(path), base=str(GOLDEN / "base"))
    model = VideoReward.load(config, "cpu")
    frames = np.random.default_rng(0).integers(0, 256, (4, 28, 28, 3), np.uint8)
    scores: list[float] = model.score([model.prepare(frames, "a ball", 2.0)])[0].tolist()
    return scores


def test_a_converted_model_scores_as_before_to_the_last_bit(tmp_path: Path) -> None:
    converted = convert(str(GOLDEN / "VideoReward"), tmp_path / "new" / "model")
    assert converted.tensors == 87
    assert [file.name for file in converted.files] == ["model.safetensors"]
    assert not list(converted.path.rglob("*.pth"))
    assert score(converted.path) == score(GOLDEN / "VideoReward")


def test_a_single_file_keeps_every_tensor(tmp_path: Path) -> None:
    (file,) = convert(str(PICKLE), tmp_path / "model.safetensors").files
    before, after = torch.load(PICKLE, weights_only=True), load_file(file)
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)


def test_tied_weights_are_written_twice(tmp_path: Path) -> None:
    weight = torch.rand(3, 3)
    torch.save({"a": weight, "b": weight}, tmp_path / "model.pth")
    (file,) = convert(str(tmp_path / "model.pth"), tmp_path / "model.safetensors").files
    assert all(torch.equal(tensor, weight) for tensor in load_file(file).values())


def test_nothing_is_left_of_a_conversion_that_failed(tmp_path: Path) -> None:
    shutil.copytree(GOLDEN / "VideoReward", tmp_path / "source")
    torch.save({"evil": Canary(tmp_path / "ran")}, tmp_path / "source" / "checkpoint-11352" / "model.pth")
    with pytest.raises(InputError, match="nothing in a checkpoint is run"):
        convert(str(tmp_path / "source"), tmp_path / "new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source"]


def test_a_model_without_a_pickle_or_a_destination_in_use_is_refused(tmp_path: Path) -> None:
    convert(str(GOLDEN / "VideoReward"), tmp_path / "new")
    with pytest.raises(InputError, match="holds safetensors already; there is nothing to convert"):
        convert(str(tmp_path / "new"), tmp_path / "newer")
    with pytest.raises(InputError, match="new exists already"):
        convert(str(GOLDEN / "VideoReward"), tmp_path / "new")
