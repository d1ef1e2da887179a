import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from policies.config import ShapesRewardConfig
from policies.rewards.frames import read_clip
from policies.rewards.model import load_reward_model
from policies.shapes.reward import new_reward_model
from policies.shapes.world import render
from policies.video import write_video
from services.cli import main
from tests.services.model_folders import write_safetensors

PROMPT = "a red circle moving left slowly"
GOLDENS = Path(__file__).parents[1] / "goldens"
VIDEOREWARD = [
    "--reward", "videoreward", "--weights", str(GOLDENS / "videoreward" / "VideoReward"),
    "--base", str(GOLDENS / "videoreward" / "base"),
]  # fmt: skip


@pytest.fixture
def clips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Two clips of the bundled world, in the working directory."""
    monkeypatch.chdir(tmp_path)
    for seed in range(2):
        write_video(Path(f"{seed}.mp4"), render(PROMPT, np.random.default_rng(seed)), fps=8)
    return ["0.mp4", "1.mp4"]


def lines_of(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> list[dict[str, Any]]:
    assert main(["score", *arguments, "--json"]) == code
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def error_of(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["score", *arguments]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    return line


def shapes_scores(clips: Sequence[str]) -> list[list[float]]:
    model = load_reward_model(ShapesRewardConfig(), device="cpu")
    videos = [read_clip(Path(clip)) for clip in clips]
    return [model.score([model.prepare(video.frames_FHWC, PROMPT, video.fps)])[0].tolist() for video in videos]


def test_each_clip_is_one_object_with_its_scores_and_what_they_came_from(
    clips: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    lines = lines_of(capsys, *clips, "--prompt", PROMPT)
    for line, clip, scores in zip(lines, clips, shapes_scores(clips), strict=True):
        assert (line["clip"], line["prompt"]) == (clip, PROMPT)
        assert line["raw"] == line["normalised"] == dict(zip(("VQ", "MQ", "TA"), scores, strict=True))
        assert line["reward"] == pytest.approx(sum(scores) / 3)
        assert line["model"]["name"] == "shapes" and line["model"]["dtype"] == "float32"
        assert line["model"]["files"]["model.safetensors"] == line["model"]["revision"]
        assert "stages" not in line


def test_a_prompt_for_each_clip(clips: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    other = "a blue square moving right quickly"
    lines = lines_of(capsys, *clips, "--prompt", PROMPT, "--prompt", other)
    assert [line["prompt"] for line in lines] == [PROMPT, other]
    assert "2 clips but 3 prompts" in error_of(capsys, *clips, *["--prompt", PROMPT] * 3)


def test_clips_that_cannot_be_scored_are_named_and_do_not_cost_the_others_their_scores(
    clips: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    Path("cut.mp4").write_bytes(Path("0.mp4").read_bytes()[:-700])
    Path("text.mp4").write_text("no video\n")
    write_video(Path("large.mp4"), np.zeros((9, 64, 64, 3), np.uint8), fps=8)
    assert main(["score", "cut.mp4", "0.mp4", "text.mp4", "none.mp4", "large.mp4", "--prompt", PROMPT, "--json"]) == 2
    said = capsys.readouterr()
    lines = [json.loads(line) for line in said.out.splitlines()]
    assert [line["clip"] for line in lines if "raw" in line] == ["0.mp4"]
    failed = [line["clip"] for line in lines if "error" in line]
    assert failed == ["cut.mp4", "text.mp4", "none.mp4", "large.mp4"]
    assert [any(f"Error: {clip}" in told for told in said.err.splitlines()) for clip in failed] == [True] * 4


def test_scores_that_are_not_finite_are_an_error_and_not_a_number(
    clips: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = new_reward_model(seed=0)
    with torch.no_grad():
        model.visual[0].weight.fill_(3e38)
        model.visual[-1].weight.fill_(3e38)
    model.save_pretrained(tmp_path / "reward")
    capsys.readouterr()
    (line,) = lines_of(capsys, clips[0], "--prompt", PROMPT, "--weights", "reward", code=1)
    assert line["error"]["type"] == "NonFiniteError" and "0.mp4" in line["error"]["message"]


def test_weights_that_are_not_finite_are_refused(
    clips: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = new_reward_model(seed=0)
    with torch.no_grad():
        model.visual[-1].bias.fill_(torch.nan)
    model.save_pretrained(tmp_path / "reward")
    capsys.readouterr()
    assert "visual.2.bias holds numbers that are not finite" in error_of(
        capsys, *clips, "--prompt", PROMPT, "--weights", "reward"
    )


def test_weights_that_are_missing_are_refused(
    clips: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    new_reward_model(seed=0).save_pretrained(tmp_path / "reward")
    write_safetensors(tmp_path / "reward" / "model.safetensors", {})
    capsys.readouterr()
    assert main(["score", *clips, "--prompt", PROMPT, "--weights", "reward"]) == 2
    assert "of the model's weights, such as is_attribute_V" in capsys.readouterr().err.splitlines()[-1]


def test_people_get_a_table_of_normalised_scores(clips: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["score", *clips, "--prompt", PROMPT]) == 0
    title, head, *rows = capsys.readouterr().out.splitlines()
    assert title.startswith("shapes ") and title.endswith(", float32")
    assert head.split() == ["clip", "VQ", "MQ", "TA", "reward"]
    expected = [[clip, *(f"{value:.4f}" for value in (*scores, sum(scores) / 3))]
                for clip, scores in zip(clips, shapes_scores(clips), strict=True)]  # fmt: skip
    assert [row.split() for row in rows] == expected


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--reward", "nope"], "there is no reward model 'nope'; there are shapes, videoreward, videoscore"),
        (["--base", "x"], "--base is not for the reward model shapes; leave it out"),
        (["--rotary", "exact"], "--rotary is not for the reward model shapes; leave it out"),
        (["--dtype", "bfloat16"], "--dtype: Input should be 'float32' for the reward model shapes"),
        (["--reward", "videoscore"], "--reward videoscore needs --weights: the folder of its published files, or its"),
        (["--weights", "nowhere"], "--weights: nowhere holds no model.safetensors"),
        (["--reward", "videoreward", "--weights", "/nowhere"], "--weights: '/nowhere' is not a folder, nor a hub id"),
        (VIDEOREWARD[:4], "--base is not given; name a folder with Qwen/Qwen2-VL-2B-Instruct"),
        (["--prompt", "b", "--prompt", "c"], "2 clips but 3 prompts"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_options_that_do_not_fit_are_one_clear_line(
    arguments: list[str], said: str, clips: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert error_of(capsys, *clips, "--prompt", PROMPT, *arguments).startswith(f"Error: {said}")


def test_a_prompt_that_the_model_cannot_judge(clips: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert "0.mp4: prompt 'a cat'" in error_of(capsys, clips[0], "--prompt", "a cat")


def test_a_published_model_scores_on_its_own_scale_with_its_stages(capsys: pytest.CaptureFixture[str]) -> None:
    prompts = json.loads((GOLDENS / "inputs" / "prompts.json").read_text(encoding="utf-8"))
    expected = json.loads((GOLDENS / "expected.json").read_text(encoding="utf-8"))["videoreward"]
    arguments = [str(GOLDENS / "inputs" / prompts[0]["file"]), "--prompt", prompts[0]["prompt"], *VIDEOREWARD]
    tolerance = expected["tolerance"]["raw_and_normalised_fp32_abs"]
    for row, options in (
        ("fp32", ["--dtype", "float32", "--stages"]),
        ("fp32_rounded_frequencies", ["--rotary", "published"]),
    ):
        (line,) = lines_of(capsys, *arguments, *options)
        reference = expected["clips"]["clip_a"]["stages_and_scores"]["scores"][row]["normalised"]
        assert line["reward"] == pytest.approx(sum(line["normalised"].values()))
        assert reference.pop("Overall") == pytest.approx(line["reward"], abs=tolerance)
        assert line["normalised"] == pytest.approx(reference, abs=tolerance)
        assert ("stages" in line) == ("--stages" in options)
