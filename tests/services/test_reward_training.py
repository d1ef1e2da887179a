"""`onlinevpo rewards train`: its configuration, its output, stopping and going on."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from policies.errors import InputError
from policies.rewards.training.config import RewardTrainingConfig
from policies.rewards.videoreward.template import DIMENSIONS, TEMPLATES
from services.cli import main
from services.config_keys import Key, all_keys
from services.config_page import settings_tables
from services.reward_training_config import load_training_config
from services.training_progress import describe_measured, describe_start
from tests.policies.rewards.training import toy

ROOT = Path(__file__).parents[2]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Clips, a table of pairs and a configuration, its paths relative to it."""
    toy.write_clips(tmp_path)
    toy.write_pairs(tmp_path)
    write(tmp_path)
    return tmp_path


def write(folder: Path, **changes: Any) -> Path:
    values = toy.config(folder, **changes).model_dump(mode="json")
    values["data"]["train"] = "pairs.csv"
    (folder / "train.yaml").write_text(yaml.safe_dump(values))
    return folder / "train.yaml"


def report(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    found: dict[str, Any] = json.loads(out)
    return found


def test_a_training_writes_a_model_and_says_what_was_measured(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rewards", "train", str(folder / "train.yaml"), "--json"]) == 0
    found = report(capsys)
    assert found["ended"] == "completed" and found["steps"] == 3
    assert found["heldout"].keys() == set(DIMENSIONS)
    assert found["data"]["labels"]["TA"]["invalid"] == 1
    assert (Path(found["folder"]) / "checkpoint-3" / "model.safetensors").is_file()


def test_people_are_told_what_it_learns_from_how_it_goes_and_what_to_do_next(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["rewards", "train", str(folder / "train.yaml"), "--set", "max_steps=2"]) == 0
    captured = capsys.readouterr()
    assert "6 rows: VQ 3 A, 2 B, 1 same, 0 invalid" in captured.err
    assert "step 2/2: loss" in captured.err
    assert "held out after step 2: " in captured.err
    assert f"--weights {folder / 'out'}" in captured.out


def test_resume_needs_something_to_go_on_from(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["rewards", "train", str(folder / "train.yaml"), "--json"]
    assert main([*command, "--resume"]) == 2
    assert "leave --resume out to begin" in report(capsys)["error"]["message"]
    assert main(command) == 0
    assert main([*command, "--resume"]) == 0


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_after_a_checkpoint_and_the_same_command_goes_on(
    folder: Path, number: signal.Signals, capsys: pytest.CaptureFixture[str]
) -> None:
    config = write(folder, max_steps=150, checkpoint_interval_epochs=1000.0, evaluation_interval_epochs=1000.0)
    command = [sys.executable, "-m", "services.cli", "rewards", "train", str(config), "--json"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment) as run:
        killer = threading.Thread(target=_signal_after_a_step, args=(run, folder / "out" / "metrics.jsonl", number))
        killer.start()
        out, err = run.communicate()
        killer.join()
    assert run.returncode == 128 + number, err
    stopped = json.loads(out)
    assert stopped["ended"] == "stopped"
    assert 0 < stopped["steps"] < 150
    assert [path.name for path in (folder / "out" / "state").iterdir()] == [f"{stopped['steps']:09d}"]


def _signal_after_a_step(run: "subprocess.Popen[str]", metrics: Path, number: signal.Signals) -> None:
    while run.poll() is None and not (metrics.is_file() and '"loss"' in metrics.read_text()):
        time.sleep(0.05)
    run.send_signal(number)


def test_every_problem_of_a_configuration_is_told_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "train.yaml").write_text(
        "model:\n  base: nowhere/at/all\n  dtyp: bfloat16\ndata:\n  train: missing.csv\nloss: {theta: 0.5}\n"
    )
    with pytest.raises(InputError) as caught:
        load_training_config(tmp_path / "train.yaml", ["batch_pairs=none"])
    text = str(caught.value)
    assert "train.yaml:2: model.base: " in text and "no such folder" in text
    assert "train.yaml:3: model.dtyp: unknown key; did you mean dtype?" in text
    assert "train.yaml:5: data.train: " in text
    assert "train.yaml:6: loss.theta: expected a number above 1, got 0.5" in text
    assert "--set batch_pairs: expected a whole number above 0, got 'none'" in text
    assert "output_dir" in text and "missing" in text


def test_settings_that_contradict_each_other_are_told(folder: Path) -> None:
    with pytest.raises(InputError, match="output_dim is 1 and reward_token last"):
        load_training_config(folder / "train.yaml", ["model.reward_token=last", "model.output_dim=1"])
    with pytest.raises(InputError, match="prompt_template short has no reward tokens"):
        load_training_config(folder / "train.yaml", ["model.prompt_template=short"])


def test_paths_are_relative_to_the_file_and_a_hub_id_stays_one(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")
    config = load_training_config(folder / "train.yaml", ["model.base=Qwen/Qwen2-VL-2B-Instruct"])
    assert config.data.train == str(folder / "pairs.csv")
    assert config.model.base == "Qwen/Qwen2-VL-2B-Instruct"


def test_the_defaults_are_the_published_recipe() -> None:
    config = RewardTrainingConfig.model_validate({"model": {"base": "b"}, "data": {"train": "t"}, "output_dir": "o"})
    rates = [getattr(config.optimizer, name) for name in toy.RATES]
    assert rates == [2e-6] * 4
    assert (config.loss.type, config.loss.theta, config.loss.invalid) == ("btt", 5.0, "in_mean")
    assert (config.tune.llm, config.tune.lora.rank, config.tune.lora.alpha, config.tune.lora.dropout) == (
        "lora",
        64,
        128,
        0.05,
    )
    assert config.tune.vision and config.tune.merger and config.tune.embeddings == "reward_tokens"
    assert (config.model.template, config.model.head_rows, config.model.dtype) == ("detailed_special", 1, "bfloat16")
    assert (config.model.fps, config.model.max_frame_pixels) == (2.0, 200_704)
    assert (config.epochs, config.batch_pairs, config.seed) == (3, 32, 42)
    optimizer = config.optimizer
    assert (optimizer.schedule, optimizer.warmup_ratio, optimizer.max_gradient_norm) == ("constant", 0.05, 1.0)
    assert (optimizer.adam_betas, optimizer.adam_epsilon, optimizer.weight_decay) == ((0.9, 0.999), 1e-8, 0)


def test_the_example_is_the_recipe_and_nothing_else(tmp_path: Path) -> None:
    values = yaml.safe_load((ROOT / "examples" / "reward_training.yaml").read_text())
    config = RewardTrainingConfig.model_validate(values)
    plain = RewardTrainingConfig.model_validate(
        {
            "model": {"base": config.model.base, "device": "cuda"},
            "data": {"train": config.data.train, "videos": config.data.videos, "workers": config.data.workers},
            "output_dir": config.output_dir,
        }
    )
    assert config == plain


def test_templates_of_the_configuration_are_those_there_are() -> None:
    choices = next(key for key in all_keys(RewardTrainingConfig) if key.dotted == "model.prompt_template").expected
    assert choices == " or ".join([*TEMPLATES, "null"])


@pytest.mark.parametrize("key", list(all_keys(RewardTrainingConfig)), ids=lambda key: key.dotted)
def test_every_setting_is_documented(key: Key) -> None:
    assert key.doc.endswith("."), f"write a docstring under {key.dotted}"


def test_the_page_lists_the_settings_as_the_source_says() -> None:
    page = (ROOT / "docs" / "reward-training.md").read_text()
    assert settings_tables(RewardTrainingConfig, title="training") in page, "see `onlinevpo config docs --training`"


def test_a_start_says_what_is_left_out_and_what_is_in_both_sets() -> None:
    summary = {
        "rows": 10, "rows_left_out": 2, "labels": {"VQ": {"A": 8, "invalid": 2}}, "training_examples": 7,
        "training_prompts": 3, "heldout_examples": 1, "heldout_prompts": 1, "heldout_prompts_in_training": 1,
        "trained_weights": 1234, "steps": 9, "first_step": 4,
    }  # fmt: skip
    text = "\n".join(describe_start(summary))
    assert "2 of them with nothing to learn from" in text
    assert "warning: 1 held-out prompts are in the training data too" in text
    assert "going on after step 4" in text


def test_what_was_measured_is_told_by_kind() -> None:
    heldout = {"VQ": {"accuracy": 0.9, "tie_auc": None}, "MQ": {"accuracy": None, "tie_auc": 0.75}}
    assert describe_measured(heldout) == "VQ 0.900 accuracy; MQ 0.750 AUC of ties"
