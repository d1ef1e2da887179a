"""`onlinevpo rewards convert`."""

import json
from pathlib import Path

import pytest

from services.cli import main
from tests.policies.rewards import goldens

SOURCE = goldens.FOLDER / "videoreward" / "VideoReward"


def test_it_writes_safetensors_and_says_their_sums(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rewards", "convert", str(SOURCE), str(tmp_path / "new"), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    written = tmp_path / "new" / "checkpoint-11352" / "model.safetensors"
    assert said["tensors"] == 87 and list(said["sha256"]) == [str(written)] and written.is_file()


def test_what_cannot_be_converted_is_bad_input(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rewards", "convert", str(tmp_path), str(tmp_path / "new")]) == 2
    assert "has no model_config.json; fetch it from KwaiVGI/VideoReward" in capsys.readouterr().err
