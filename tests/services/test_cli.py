import json
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster.config import RunConfig
from cluster.observer import RunEnd, RunObserver
from policies.errors import ClusterError, InputError, NonFiniteError
from services.cli import Controller, main
from services.model_folder import check_weights
from tests.services.fake_run import FAKE_TEST, fake_line, fake_run_dir

CONFIG = """\
policy: {path: shapes}
prompts: {train: "shapes:train"}
sampling: {num_frames: 9, height: 32, width: 32}
updates: 3
"""


@dataclass(frozen=True, kw_only=True)
class Ended:
    """What the controller returns."""

    run_dir: Path
    ended: str = "completed"
    updates: int = 3
    seconds: dict[str, float] = field(default_factory=lambda: {"startup": 1.0, "total": 65.0, "evaluate": float("nan")})
    test: dict[str, Any] | None = field(default_factory=lambda: dict(FAKE_TEST))


@dataclass
class FakeController:
    """Makes a run directory and its files, then ends as it is told."""

    ended: str = "completed"
    error: BaseException | None = None
    act: Callable[[], object] = lambda: None
    config: RunConfig | None = None
    resumed: Path | None = None

    def run(self, config: RunConfig, observer: RunObserver) -> RunEnd:
        self.config = config
        assert config.run_id is not None
        run_dir = Path(config.output_dir) / config.run_id
        run_dir.mkdir(parents=True, exist_ok=True)
        (run_dir / "config.yaml").write_text(yaml.safe_dump(config.model_dump(mode="json")))
        return self._go(run_dir, config, observer)

    def resume(self, run_dir: Path, observer: RunObserver) -> RunEnd:
        self.resumed = run_dir
        values = yaml.safe_load((run_dir / "config.yaml").read_text())
        return self._go(run_dir, RunConfig.model_validate_json(json.dumps(values)), observer)

    def _go(self, run_dir: Path, config: RunConfig, observer: RunObserver) -> RunEnd:
        observer.on_start(run_dir, config, 0)
        for stage in ("startup", "calibrate", "train"):
            observer.on_stage(stage)
        print("a library prints this")
        self.act()
        if self.error is not None:
            raise self.error
        with (run_dir / "metrics.jsonl").open("w") as file:
            for update in range(3):
                file.write(json.dumps(fake_line(update)) + "\n")
                observer.on_update(fake_line(update))
        (run_dir / "lora").mkdir(exist_ok=True)
        result = Ended(run_dir=run_dir, ended=self.ended)
        observer.on_end(result)
        return result

    def __call__(self, *arguments: str) -> int:
        return main(arguments, controller=Controller(run=self.run, resume=self.resume))


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run.yaml").write_text(CONFIG)


def last_json(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """Stdout, which must be one JSON object and nothing else."""
    out = capsys.readouterr().out
    assert out.count("\n") == 1 and out.endswith("\n")
    value: dict[str, Any] = json.loads(out)
    return value


def test_train_runs_the_config_with_its_overrides(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    controller = FakeController()
    assert controller("train", "run.yaml", "--set", "learner.learning_rate=1e-4", "--set", "seed=5") == 0
    assert controller.config is not None
    assert (controller.config.learner.learning_rate, controller.config.seed) == (1e-4, 5)
    out = capsys.readouterr().out
    assert "Run run completed after 3 updates in 1 min 05 s." in out
    assert "0.646 -> 0.823   gain +0.177 (95 % interval +0.152 to +0.201)" in out
    assert f'pipeline.load_lora_weights("{tmp_path / "runs" / "run" / "lora"}")' in out
    assert (tmp_path / "runs" / "run" / "report.html").is_file()


def test_json_is_alone_on_stdout_and_progress_goes_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    assert FakeController()("demo", "--seed", "3", "--updates", "3", "--json") == 0
    captured = capsys.readouterr()
    result = json.loads(captured.out)
    assert captured.out.count("\n") == 1
    assert (result["seed"], result["updates"]) == (3, 3)
    assert Path(result["run_dir"]).name.startswith("demo-seed3-")
    assert set(result["seconds"]) == {"startup", "generate", "score", "update", "evaluate", "total"}
    assert result["seconds"]["evaluate"] is None  # NaN is no JSON
    assert set(result["test"]) == {
        "ground_truth_before", "ground_truth_after", "reward_before", "reward_after", "win_rate",
        "win_rate_margin_0_05", "ground_truth_after_energy_matched", "diversity_before", "diversity_after",
    }  # fmt: skip
    assert "a library prints this" in captured.err and "update 3/3" in captured.err


def test_what_child_processes_print_stays_off_stdout_too(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    controller = FakeController(act=lambda: os.system("echo from a child"))
    assert controller("train", "run.yaml", "--json") == 0
    captured = capfd.readouterr()
    assert captured.out.count("\n") == 1 and json.loads(captured.out)["ended"] == "completed"
    assert "from a child" in captured.err


def test_demo_options_reach_the_config(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("a red circle moving left slowly\n")
    controller = FakeController()
    options = "--seed 7 --updates 5 --mode in_process --selection random --source offline --eval-seed 9"
    paths = "--eval-prompts mine.txt --output-dir out --set reference_update_interval=0"
    assert controller("demo", *options.split(), *paths.split()) == 0
    config = controller.config
    assert config is not None
    assert (config.seed, config.updates, config.placement.mode) == (7, 5, "in_process")
    assert (config.pairs.selection, config.pairs.source, config.evaluation.seed) == ("random", "offline", 9)
    assert (config.prompts.test, config.output_dir) == (str(tmp_path / "mine.txt"), str(tmp_path / "out"))
    assert (config.reference_update_interval, config.sampling.candidates_per_prompt) == (0, 4)


def test_two_demos_never_share_a_directory(tmp_path: Path) -> None:
    assert FakeController()("demo") == FakeController()("demo") == 0
    assert len(list((tmp_path / "runs").iterdir())) == 2


@pytest.mark.parametrize(
    ("ended", "code"), [("completed", 0), ("early_stop", 0), ("stopped_sigint", 130), ("stopped_sigterm", 143)]
)
def test_exit_codes_of_runs_that_end_in_order(ended: str, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert FakeController(ended=ended)("train", "run.yaml", "--json") == code
    assert last_json(capsys)["ended"] == ended


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InputError("bad thing"), 2),
        (ClusterError("no cluster at 10.0.0.1"), 3),
        (NonFiniteError("loss is nan"), 1),
        (RuntimeError("a bug"), 1),
        (KeyboardInterrupt(), 130),
    ],
)
def test_exit_codes_of_runs_that_fail(error: BaseException, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert FakeController(error=error)("train", "run.yaml", "--json") == code
    captured = capsys.readouterr()
    told = json.loads(captured.out)["error"]
    assert told["exit_code"] == code
    assert str(error) in told["message"] and str(error) in captured.err
    assert ("Traceback" in captured.err) == isinstance(error, RuntimeError)


def test_a_failed_run_has_a_report(tmp_path: Path) -> None:
    assert FakeController(error=NonFiniteError("loss is nan"))("train", "run.yaml") == 1
    assert (tmp_path / "runs" / "run" / "report.html").is_file()


def test_sigterm_outside_a_run_ends_with_143(capsys: pytest.CaptureFixture[str]) -> None:
    before = signal.getsignal(signal.SIGTERM)
    controller = FakeController(act=lambda: os.kill(os.getpid(), signal.SIGTERM))
    assert controller("train", "run.yaml", "--json") == 143
    assert last_json(capsys)["error"]["exit_code"] == 143
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize(
    "arguments",
    [
        ["train"],
        ["train", "run.yaml", "--nonsense"],
        ["train", "run.yaml", "extra"],
        ["nonsense"],
        ["demo", "--seed", "-1"],
        ["demo", "--seed", "many"],
        ["demo", "--updates", "0"],
        ["demo", "--mode", "colocated"],
        ["demo", "--eval-prompts", "nowhere.txt"],
        ["demo", "--set", "updatse=3"],
        ["demo", "--output-dir", "run.yaml"],
        ["train", "nowhere.yaml"],
        ["train", "run.yaml", "--set", "sampling.candidates_per_prompt=1"],
        ["resume", "nowhere"],
        ["report", "nowhere"],
        ["shapes", "build", "everything", "--output-dir", "out"],
        ["shapes", "build"],
    ],
    ids=" ".join,
)
def test_bad_input_exits_2_with_one_message_and_leaves_nothing(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    controller = FakeController()
    assert controller(*arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err and "Traceback" not in captured.err
    assert controller.config is None
    assert [path.name for path in tmp_path.iterdir()] == ["run.yaml"]
    assert controller(*arguments, "--json") == 2
    assert last_json(capsys)["error"]["exit_code"] == 2


def test_validate_says_what_would_run_and_starts_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", "run.yaml", "--set", "pairs.source=offline", "--json"]) == 0
    told = last_json(capsys)
    assert (told["valid"], told["updates"], told["videos"]) == (True, 3, 96)
    assert "offline" in told["warnings"][0] and told["config"]["pairs"]["source"] == "offline"
    assert main(["validate", "run.yaml"]) == 0
    assert "run.yaml is valid." in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["run.yaml"]


def test_a_questionable_setting_warns(capsys: pytest.CaptureFixture[str]) -> None:
    assert FakeController()("demo", "--source", "offline") == 0
    assert "warning: pairs.source is offline" in capsys.readouterr().err


def test_resume_takes_a_directory_or_an_id(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_dir = fake_run_dir(tmp_path / "runs", updates=2, finished=False)
    for name, more in (
        (str(run_dir), []),
        ("demo-seed0", []),
        ("demo-seed0", ["--output-dir", str(tmp_path / "runs")]),
    ):
        controller = FakeController()
        assert controller("resume", name, *more, "--json") == 0
        assert controller.resumed == run_dir
        assert last_json(capsys)["run_dir"] == str(run_dir)
    assert FakeController()("resume", "demo-seed1") == 2
    assert "did you mean demo-seed0?" in capsys.readouterr().err


def test_resume_of_a_broken_run_directory_is_bad_input(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_dir = fake_run_dir(tmp_path / "runs", updates=2, finished=False)
    for text in ("updates: many", "{", "3"):
        (run_dir / "config.yaml").write_text(text)
        assert FakeController()("resume", str(run_dir)) == 2
        assert "is no configuration of this version" in capsys.readouterr().err


def test_report_is_written_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_dir = fake_run_dir(tmp_path / "runs", updates=2, finished=False)
    assert main(["report", "demo-seed0"]) == 0
    assert capsys.readouterr().out.strip() == str(run_dir / "report.html")
    assert (run_dir / "report.html").is_file()


def test_version_and_help_say_so_on_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("onlinevpo ")
    for command in ([], ["demo"], ["train"], ["resume"], ["validate"], ["report"], ["shapes", "build"], ["config"]):
        assert main([*command, "--help"]) == 0
        assert "Usage: onlinevpo" in capsys.readouterr().out


def test_shapes_build_writes_a_stage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["shapes", "build", "text", "--output-dir", "world", "--seed", "1", "--json"]) == 0
    assert Path(last_json(capsys)["folder"]).name == "text_encoder"
    check_weights(tmp_path / "world" / "policy" / "text_encoder")
    assert sys.stdout is not None
