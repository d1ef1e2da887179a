"""`onlinevpo rewards eval` as people run it: stored scores, real videos, bad input, a killed run."""

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from policies.shapes.prompts import TEST_PROMPTS
from policies.shapes.world import FPS, Corruption, render
from policies.video import write_video
from services.cli import main
from tests.policies.rewards import goldens

GOLDEN = json.loads((Path(__file__).parents[1] / "goldens" / "metrics.json").read_text())
LABELS = {1: "A", -1: "B", 0: "same"}
PAIR_KEYS = {
    "accuracy_without_ties", "accuracy_with_ties", "tie_threshold", "accuracy_with_ties_reference_procedure",
    "pairs_used", "pairs_excluded",
}  # fmt: skip
HEAD = "path_A,path_B,A_model,B_model,prompt,fps_A,fps_B,num_frames_A,num_frames_B,VQ,MQ,TA,Overall"


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For each of 8 prompts a clean video, A, and a spoilt one, B."""
    folder = tmp_path_factory.mktemp("videos")
    for index, prompt in enumerate(TEST_PROMPTS[:8]):
        rng = np.random.default_rng(index)
        write_video(folder / f"{index}A.mp4", render(prompt, rng), fps=FPS)
        write_video(folder / f"{index}B.mp4", render(prompt, rng, Corruption(visual=0.9, motion=0.9)), fps=FPS)
    return folder


def benchmark(labels: str = "A,A,invalid,A") -> Path:
    lines = [
        f"{index}A.mp4,{index}B.mp4,one,two,{prompt},8,8,9,9,{labels}" for index, prompt in enumerate(TEST_PROMPTS[:8])
    ]
    path = Path("bench.csv")
    path.write_text("\n".join([HEAD, *lines]) + "\n")
    return path


def run(*arguments: str | Path) -> int:
    return main(["rewards", "eval", *map(str, arguments)])


def last_json(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    value: dict[str, Any] = json.loads(out)
    return value


@pytest.mark.parametrize("case", GOLDEN["pair_cases"], ids=lambda case: case["name"])
def test_stored_scores_give_the_reference_values(case: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    with open("scores.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["prompt_id", "score_A", "score_B", "label"])
        for index, (label, difference) in enumerate(zip(case["human"], case["score_difference"], strict=True)):
            writer.writerow([f"p{index // 2}", difference, 0, LABELS[label]])
        writer.writerow(["p0", "", 1, "A"])
        writer.writerow(["p0", 2, 1, "invalid"])
    assert run("--scores", "scores.csv", "--json") == 0
    found = last_json(capsys)
    assert found.keys() >= PAIR_KEYS and "reference_procedure" not in found
    expected = case["accuracy_with_ties"]
    assert found["accuracy_with_ties"] == pytest.approx(expected["exact_optimum"], abs=1e-12)
    assert found["accuracy_with_ties_reference_procedure"] == pytest.approx(expected["reference_procedure"], abs=1e-12)
    assert (found["accuracy_without_ties"] is None) == (case["accuracy_without_ties"] is None)
    if case["accuracy_without_ties"] is not None:
        assert found["accuracy_without_ties"] == pytest.approx(case["accuracy_without_ties"], abs=1e-12)
    threshold = expected["exact_optimum_threshold"]
    assert found["tie_threshold"] == (None if isinstance(threshold, str) else threshold)
    assert (found["pairs_used"], found["pairs_excluded"]) == (case["n"], 2)
    assert not Path("runs").exists()


def test_stored_scores_are_told_to_people_with_a_report(capsys: pytest.CaptureFixture[str]) -> None:
    Path("s.csv").write_text("prompt_id,score_A,score_B,label\np,1,2,B\nq,1,2,same\nr,3,,A\n")
    assert run("--scores", "s.csv", "--out", "o", "--reference-procedure") == 0
    out = capsys.readouterr().out
    assert re.search(r"^Overall +100\.0 % \[.*\] +50\.0 % \[.*\] +1 +2 +1 +50\.0 % +100\.0 % +2$", out, re.MULTILINE)
    assert f"report   {Path('o') / 'report.html'}" in out
    assert json.loads(Path("o/result.json").read_text())["reference_procedure"]["pairs"] == 2
    assert sorted(path.name for path in Path("o").iterdir()) == ["report.html", "result.json"]


def test_stored_scores_of_best_of_n_and_ratings(capsys: pytest.CaptureFixture[str]) -> None:
    groups = GOLDEN["ranking"]["groups"]
    rows = [
        f"{group['prompt']},{score},{int(index == group['human_best'])},{-index}"
        for group in groups
        for index, score in enumerate(group["scores"])
    ]
    Path("s.csv").write_text("\n".join(["prompt_id,score,best,rating", *rows]))
    assert run("--scores", "s.csv", "--json", "--recall-at", "2", "--bootstrap-draws", "20") == 0
    found, expected = last_json(capsys), GOLDEN["ranking"]["expected"]
    assert found["mrr"] == pytest.approx(expected["mrr"], abs=1e-12)
    assert found["recall_at_2"] == pytest.approx(expected["recall_at_2"], abs=1e-12) and "recall_at_1" not in found
    assert -1 <= found["spearman"] <= 1 and len(found["spearman_ci95"]) == 2
    assert run("--scores", "s.csv", "--bootstrap-draws", "0") == 0
    assert "recall@4" in capsys.readouterr().out


def test_a_model_is_evaluated_on_videos(videos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = benchmark()
    assert run("--reward", "shapes", "--data", data, "--videos", videos, "--json") == 0
    found = last_json(capsys)
    assert list(found["dimensions"]) == ["VQ", "MQ", "Overall"]
    assert found["notes"] == ["TA: no pair can be used: of 8, 8 have no label A, B or same, and 0 lack a score"]
    assert all(metrics["accuracy_without_ties"] == 1 for metrics in found["dimensions"].values())
    assert found["videos"] == {"total": 16, "scored": 16, "scored_before": 0, "failed": []}
    assert found["reward"]["model"] == "shapes" and found["reward"]["files"]["model.safetensors"]
    out = Path("runs/reward-eval-bench")
    assert json.loads((out / "result.json").read_text())["dimensions"] == found["dimensions"]
    assert run("--scores", out / "pairs-VQ.csv", "--json") == 0
    stored = last_json(capsys)
    assert all(stored[key] == value for key, value in found["dimensions"]["VQ"].items())


def test_videoreward_is_evaluated_with_the_reference_s_scores(capsys: pytest.CaptureFixture[str]) -> None:
    """Its prompts have braces, quotes, line ends and outer blanks, which must arrive as they are."""
    with open("pairs.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["path_A", "path_B", "prompt", "MQ", "label"])
        writer.writerows([f"{name}.mp4", f"{name}.mp4", goldens.prompt(name), "A", "same"] for name in goldens.CLIPS)
    folder = goldens.FOLDER / "videoreward"
    model = ("--reward", "videoreward", "--weights", folder / "VideoReward", "--base", folder / "base")
    assert run(*model, "--data", "pairs.csv", "--videos", goldens.FOLDER / "inputs", "--json") == 0
    found = last_json(capsys)
    assert found["dimensions"]["Overall"]["tie_threshold"] == 0 and found["reward"]["settings"]["dtype"] == "float32"
    reference = goldens.expected("videoreward")
    for line in Path("runs/reward-eval-pairs/scores.jsonl").read_text().splitlines():
        scores = json.loads(line)
        stages = reference["clips"][Path(scores["path"]).stem]["stages_and_scores"]
        expected = stages["scores"]["fp32"]["normalised"]
        told = {**scores["normalised"], "Overall": scores["overall"]}
        assert told == pytest.approx(expected, abs=3 * reference["tolerance"]["raw_and_normalised_fp32_abs"])


def test_the_same_command_again_scores_nothing_and_says_the_same(
    videos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = benchmark()
    told = []
    for _ in range(2):
        assert run("--data", data, "--videos", videos, "--json") == 0
        told.append(last_json(capsys))
    assert told[1]["videos"]["scored_before"] == 16 and told[0]["dimensions"] == told[1]["dimensions"]


def test_bad_videos_are_named_once_and_counted(
    videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "videos"
    place.mkdir()
    for file in videos.iterdir():
        (place / file.name).write_bytes(file.read_bytes())
    (place / "3A.mp4").write_text("no video")
    (place / "4B.mp4").unlink()
    assert run("--data", benchmark(), "--videos", place) == 0
    captured = capsys.readouterr()
    assert captured.err.count("3A.mp4") == captured.err.count("4B.mp4") == 1
    assert "2 of 16 videos could not be scored" in captured.out
    assert run("--data", "bench.csv", "--videos", place, "--json") == 0
    found = last_json(capsys)
    assert [each["path"] for each in found["videos"]["failed"]] == ["3A.mp4", "4B.mp4"]
    assert (found["dimensions"]["VQ"]["pairs_used"], found["dimensions"]["VQ"]["pairs_with_missing_score"]) == (6, 2)


def test_best_of_n_videos(videos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        f"{i}{side}.mp4,{TEST_PROMPTS[i]},{int(side == 'A')},{'51'['AB'.index(side)]}"
        for i in range(8)
        for side in "AB"
    ]
    Path("best.csv").write_text("\n".join(["path,prompt,best,rating", *rows]))
    arguments = ("--data", "best.csv", "--videos", videos, "--bootstrap-draws", "50")
    assert run(*arguments, "--json") == 0
    found = last_json(capsys)["dimensions"]
    assert found["Overall"]["mrr"] == 1 and found["Overall"]["spearman"] > 0.8
    assert set(found) == {"VQ", "MQ", "TA", "Overall"} and "spearman" not in found["VQ"]
    assert run(*arguments) == 0
    out = capsys.readouterr().out
    assert "MRR" in out and "Spearman's rho" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give either --data with --videos"),
        (["--data", "bench.csv", "--videos", ".", "--scores", "s.csv"], "give either --data with --videos"),
        (["--data", "bench.csv"], "--data needs --videos"),
        (["--scores", "s.csv", "--reward", "shapes"], "--scores needs no model, so --reward would do nothing"),
        (["--scores", "missing.csv"], "missing.csv: no such file"),
        (["--scores", "bad.csv"], "bad.csv:3: label is 'C'; a label is A, B, same or invalid"),
        (["--scores", "unusable.csv"], "no pair can be used: of 1, 1 have no label A, B or same, and 0 lack a score"),
        (["--scores", "s.csv", "--out", "bad.csv"], "--out bad.csv: cannot be written"),
        (["--data", "bench.csv", "--videos", "nowhere"], "--videos nowhere: no such folder"),
        (["--data", "missing.csv", "--videos", "."], "missing.csv: no such file"),
        (["--data", "s.csv", "--videos", "."], "has neither path_A and path_B"),
        (["--data", "bench.csv", "--videos", "."], "none of 16 videos could be scored; the first: 0A.mp4: no"),
        (["--data", "bench.csv", "--videos", ".", "--base", "x"], "--base is not for the reward model shapes"),
        (["--data", "bench.csv", "--videos", ".", "--reward", "videoreward"], "--reward videoreward needs --weights"),
        (["--data", "bench.csv", "--videos", ".", "--weights", "nowhere"], "nowhere holds no model.safetensors"),
        (["--scores", "s.csv", "--bootstrap-draws", "-1"], "bootstrap-draws"),
    ],
)  # fmt: skip
def test_bad_input_is_one_clear_error(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    benchmark()
    header = "prompt_id,score_A,score_B,label\n"
    Path("s.csv").write_text(header + "p,1,2,A\n")
    Path("bad.csv").write_text(header + "p,1,2,A\np,1,2,C\n")
    Path("unusable.csv").write_text(header + "p,1,2,invalid\n")
    assert run(*arguments) == 2
    captured = capsys.readouterr()
    errors = [line for line in captured.err.splitlines() if line.startswith("Error: ")]
    assert captured.out == "" and len(errors) == 1 and message in errors[0]
    assert "Traceback" not in captured.err
    assert run(*arguments, "--json") == 2
    assert last_json(capsys)["error"]["exit_code"] == 2


@pytest.mark.slow
def test_a_killed_evaluation_goes_on_and_equals_an_unbroken_one(
    videos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [f"{i % 8}A.mp4,{i % 8}B.mp4,{prompt},{'AB'[i % 2]}" for i, prompt in enumerate(TEST_PROMPTS * 2)]
    Path("many.csv").write_text("\n".join(["path_A,path_B,prompt,label", *rows]))
    arguments = ["--data", "many.csv", "--videos", str(videos), "--batch", "1", "--json"]
    assert run(*arguments, "--out", "whole") == 0
    whole = last_json(capsys)
    program = [sys.executable, "-m", "services.cli", "rewards", "eval", *arguments, "--out", "killed"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    process = subprocess.Popen(program, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    file = Path("killed/scores.jsonl")
    while process.poll() is None and not (file.exists() and file.read_bytes().count(b"\n") >= 3):
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.wait()
    left = file.read_bytes().count(b"\n")
    assert 3 <= left < whole["videos"]["total"]
    assert run(*arguments, "--out", "killed") == 0
    resumed = last_json(capsys)
    assert resumed["videos"]["scored_before"] == left
    assert resumed["dimensions"] == whole["dimensions"]
    assert file.read_bytes() == Path("whole/scores.jsonl").read_bytes()
