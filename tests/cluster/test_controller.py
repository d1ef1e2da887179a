import asyncio
import json
import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from cluster.controller import resume, run
from cluster.evaluation import EvaluationPlan
from cluster.in_process import InProcessPlacement
from cluster.observer import SilentObserver
from cluster.parts import sampling_of, shape_of
from cluster.run_directory import RunDirectory
from policies.errors import InputError
from policies.types import Prompt
from tests.cluster.crashes import MOMENTS, identity, run_apart, same_state, tiny

LN_2 = 0.6931471805599453


class Recorder(SilentObserver):
    """Keeps what the run says; sends this process a signal after an update if asked to."""

    def __init__(self, *, signal_at: int | None = None, number: signal.Signals = signal.SIGINT) -> None:
        self.updates: list[Mapping[str, Any]] = []
        self.commits: list[int] = []
        self.validations: list[Mapping[str, Any]] = []
        self._signal_at, self._number = signal_at, number

    def on_update(self, line: Mapping[str, Any]) -> None:
        self.updates.append(line)
        if line["update"] == self._signal_at:
            os.kill(os.getpid(), self._number)

    def on_commit(self, update: int) -> None:
        self.commits.append(update)

    def on_validation(self, line: Mapping[str, Any]) -> None:
        self.validations.append(line)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Recorder]:
    """Nine updates in one piece, with swaps at versions 4 and 8."""
    recorder = Recorder()
    result = run(
        tiny(tmp_path_factory.mktemp("runs"), run_id="unbroken", mode="in_process", updates=9), observer=recorder
    )
    assert result.ended == "completed"
    return result.run_dir, recorder


@pytest.mark.slow
def test_the_loss_is_ln_2_at_the_start_and_right_after_each_swap_and_only_there(
    unbroken: tuple[Path, Recorder],
) -> None:
    lines = list(RunDirectory(unbroken[0]).read_metrics())
    assert [line["reference_version"] for line in lines] == [0, 0, 0, 0, 4, 4, 4, 4, 8]
    for line in lines:
        is_fresh = line["reference_version"] == line["policy_version"]
        assert (abs(line["loss"] - LN_2) < 1e-6) == is_fresh
        assert (line["margin_mean"] == 0.0) == is_fresh


def test_commits_come_as_often_as_asked_and_at_the_end(unbroken: tuple[Path, Recorder]) -> None:
    assert unbroken[1].commits == [0, 3, 6, 9]
    newest = RunDirectory(unbroken[0]).newest_commit()
    assert newest is not None and newest.update == 9


def test_every_group_has_one_small_file_and_every_pair_its_latents(unbroken: tuple[Path, Recorder]) -> None:
    directory = RunDirectory(unbroken[0])
    for line in directory.read_metrics():
        for group_id in line["group_ids"]:
            record = directory.read_group(group_id)
            assert record is not None and record["policy_version"] == line["policy_version"]
            assert set(load_file(directory.latents_file(group_id))) == {"chosen", "rejected"}


def test_the_aligned_lora_lies_in_its_folder_with_its_origin(unbroken: tuple[Path, Recorder]) -> None:
    tensors = load_file(unbroken[0] / "lora" / "pytorch_lora_weights.safetensors")
    assert any(tensor.abs().max() > 0 for name, tensor in tensors.items() if "lora_B" in name)
    with safe_open(unbroken[0] / "lora" / "pytorch_lora_weights.safetensors", framework="numpy") as file:
        metadata = file.metadata()
    assert metadata["base_model"] == "shapes" and metadata["policy_version"] == "9"
    assert metadata["reward_model"].startswith("shapes@")
    assert '"transformer.lora_alpha": 8.0' in metadata["lora_adapter_metadata"]


@pytest.mark.slow
@pytest.mark.parametrize("number, ended", [(signal.SIGINT, "stopped_sigint"), (signal.SIGTERM, "stopped_sigterm")])
def test_a_first_signal_finishes_the_update_and_a_resumed_run_equals_the_unbroken_one(
    unbroken: tuple[Path, Recorder], tmp_path: Path, number: signal.Signals, ended: str
) -> None:
    config = tiny(tmp_path, run_id="stopped", mode="in_process", updates=9)
    result = run(config, observer=Recorder(signal_at=4, number=number))
    assert (result.ended, result.updates) == (ended, 5)
    newest = RunDirectory(result.run_dir).newest_commit()
    assert newest is not None and newest.update == 5
    resumed = resume(result.run_dir, observer=Recorder())
    assert resumed.ended == "completed"
    assert identity(resumed.run_dir) == identity(unbroken[0])


@pytest.mark.slow
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_killed_driver_is_resumed_to_the_same_run(
    unbroken: tuple[Path, Recorder], tmp_path: Path, moment: str
) -> None:
    config = tiny(tmp_path, run_id="killed", mode="in_process", updates=9)
    assert run_apart(config, [{"update": 5, "role": "driver", "moment": moment}], tmp_path) == -signal.SIGKILL
    assert identity(tmp_path / "killed") != identity(unbroken[0])
    result = run(config, observer=Recorder())  # the same command again is how a run goes on
    assert result.ended == "completed"
    assert identity(result.run_dir) == identity(unbroken[0])
    assert same_state(result.run_dir, unbroken[0])


def test_a_finished_run_has_nothing_to_resume(unbroken: tuple[Path, Recorder]) -> None:
    recorder = Recorder()
    result = resume(unbroken[0], observer=recorder)
    assert (result.ended, result.updates, recorder.updates) == ("completed", 9, [])


@pytest.mark.slow
def test_a_finished_group_of_an_unfinished_batch_is_not_drawn_again(tmp_path: Path) -> None:
    config = tiny(tmp_path, run_id="killed", mode="in_process", updates=2)
    assert run_apart(config, [{"update": 1, "role": "driver", "moment": "sampled"}], tmp_path) == -signal.SIGKILL
    directory = RunDirectory(tmp_path / "killed")
    done = sorted(directory.groups.rglob("*.json"))
    written = {path: path.stat().st_mtime_ns for path in done}
    assert written
    run(config, observer=Recorder())
    assert {path: path.stat().st_mtime_ns for path in done} == written


@pytest.mark.slow
def test_validation_is_measured_with_equal_noise_and_the_best_version_is_exported(tmp_path: Path) -> None:
    (tmp_path / "validation.txt").write_text("a red circle moving left slowly\na blue square moving up quickly\n")
    config = tiny(
        tmp_path,
        run_id="validated",
        mode="in_process",
        updates=4,
        prompts={"validation": str(tmp_path / "validation.txt"), "test": str(tmp_path / "validation.txt")},
        evaluation={"validation_interval_updates": 2, "keep_best": True, "samples_per_prompt": 2},
    )
    recorder = Recorder()
    result = run(config, observer=recorder)
    assert [record["policy_version"] for record in recorder.validations] == [2, 4]
    best = max(recorder.validations, key=lambda record: record["reward_mean"])["policy_version"]
    assert result.test is not None and result.test["policy_version"] == best
    exported = load_file(result.run_dir / "lora" / "pytorch_lora_weights.safetensors")
    kept = load_file(result.run_dir / "weights" / f"{best:06d}" / "pytorch_lora_weights.safetensors")
    assert all(torch.equal(exported[name], kept[name]) for name in kept)


@pytest.mark.slow
def test_a_version_long_past_can_still_be_sampled_in_one_process(unbroken: tuple[Path, Recorder]) -> None:
    config = RunDirectory(unbroken[0]).read_config()
    placement = InProcessPlacement(config, unbroken[0])
    plan = EvaluationPlan(seed=1, samples_per_prompt=2, sampling=sampling_of(config), shape=shape_of(config))
    hashes = []
    for version in (6, 9):
        (request,) = plan.requests([Prompt(id="p", text="a red circle moving left slowly")], version=version)
        hashes.append(asyncio.run(placement.generator.sample(request))[0].weights_hash)
    lines = list(RunDirectory(unbroken[0]).read_metrics())
    assert hashes == [lines[5]["weights_hash"], lines[8]["weights_hash"]]


@pytest.mark.slow
def test_early_stop_ends_the_run_when_validation_brings_nothing_better(tmp_path: Path) -> None:
    (tmp_path / "validation.txt").write_text("a red circle moving left slowly\n")
    config = tiny(
        tmp_path,
        run_id="early",
        mode="in_process",
        updates=30,
        prompts={"validation": str(tmp_path / "validation.txt")},
        learner={"learning_rate": 1e-12},
        evaluation={"validation_interval_updates": 1, "early_stop_patience": 2, "samples_per_prompt": 2},
    )
    result = run(config, observer=Recorder())
    assert result.ended == "early_stop" and result.updates < 30


@pytest.mark.slow
def test_the_test_compares_the_same_noise_and_writes_videos(tmp_path: Path) -> None:
    (tmp_path / "test.txt").write_text("a red circle moving left slowly\na blue square moving up quickly\n")
    config = tiny(
        tmp_path,
        run_id="tested",
        mode="in_process",
        updates=1,
        prompts={"test": str(tmp_path / "test.txt")},
        evaluation={"ground_truth": "shapes", "samples_per_prompt": 2, "videos_in_report": 2},
    )
    result = run(config, observer=Recorder())
    assert result.test is not None and 0 < result.test["ground_truth_before"] < 1
    assert json.loads((result.run_dir / "test.json").read_text()) == result.test
    index = json.loads((result.run_dir / "samples" / "index.json").read_text())
    assert len(index) == 2
    for entry in index:
        assert (result.run_dir / "samples" / f"{entry['name']}-before.mp4").stat().st_size > 0


@pytest.mark.slow
def test_offline_pairs_all_come_from_the_initial_policy(tmp_path: Path) -> None:
    config = tiny(
        tmp_path,
        run_id="offline",
        mode="in_process",
        updates=3,
        pairs={"source": "offline"},
        reference_update_interval=0,
    )
    directory = RunDirectory(run(config, observer=Recorder()).run_dir)
    records = [directory.read_group(g) for line in directory.read_metrics() for g in line["group_ids"]]
    assert {record["policy_version"] for record in records if record} == {0}
    assert len({m["weights_hash"] for record in records if record for m in record["members"]}) == 1


@pytest.mark.slow
def test_selections_reverse_and_randomise_and_change_nothing_else_at_first(tmp_path: Path) -> None:
    found = {}
    for selection in ("best_worst", "reversed"):
        config = tiny(tmp_path, run_id=selection, mode="in_process", updates=1, pairs={"selection": selection})
        found[selection] = next(iter(RunDirectory(run(config, observer=Recorder()).run_dir).read_metrics()))["pairs"]
    assert [(p["chosen_seed"], p["rejected_seed"]) for p in found["best_worst"]] == [
        (p["rejected_seed"], p["chosen_seed"]) for p in found["reversed"]
    ]


@pytest.mark.parametrize(
    "sections, message",
    [
        ({"policy": {"lora": {"rank": 4, "alpha": 8.0, "targets": ["to_qq"]}}}, "to_qq"),
        ({"sampling": {"height": 33}}, "33"),
        ({"reward": {"weights": {"XX": 1.0}}}, "XX"),
    ],
    ids=["LoRA target that matches nothing", "size the family cannot take", "dimension that does not exist"],
)
def test_bad_input_leaves_nothing_behind(tmp_path: Path, sections: dict[str, Any], message: str) -> None:
    config = tiny(tmp_path / "runs", run_id="bad", mode="in_process", **sections)
    with pytest.raises(InputError, match=message):
        run(config, observer=Recorder())
    assert list(tmp_path.iterdir()) == []


def test_another_configuration_in_the_same_place_is_refused_and_the_run_stays(unbroken: tuple[Path, Recorder]) -> None:
    before = identity(unbroken[0])
    config = tiny(unbroken[0].parent, run_id="unbroken", mode="in_process", updates=9, seed=7)
    with pytest.raises(InputError, match="differs in seed"):
        run(config, observer=Recorder())
    assert identity(unbroken[0]) == before
