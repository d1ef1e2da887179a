"""A whole training: going on, stopping, refusing, measuring."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from policies.errors import InputError, WeightsMismatchError
from policies.rewards.training.config import RewardTrainingConfig
from policies.rewards.training.run import TrainingResult, train_video_reward
from tests.policies.rewards.training import toy

FREE = ("seconds", "measured_in_seconds")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("clips")
    toy.write_clips(made)
    toy.write_pairs(made)
    return made


def run(config: RewardTrainingConfig, *, stop_after: int | None = None) -> tuple[TrainingResult, toy.Recorder]:
    recorder = toy.Recorder()
    result = train_video_reward(
        config, recorder, should_stop=lambda: stop_after is not None and len(recorder.steps) >= stop_after
    )
    return result, recorder


def lines(config: RewardTrainingConfig) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in (Path(config.output_dir) / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key not in FREE} for line in found]


def weights(config: RewardTrainingConfig) -> dict[str, torch.Tensor]:
    (file,) = Path(config.output_dir).glob("checkpoint-*/model.safetensors")
    return load_file(file)


@pytest.mark.slow
def test_a_stopped_and_resumed_training_equals_an_unbroken_one_bit_for_bit(folder: Path, tmp_path: Path) -> None:
    tune = {"lora": {"rank": 4, "alpha": 8, "dropout": 0.2}}
    unbroken, broken = (
        toy.config(
            folder,
            output_dir=str(tmp_path / name),
            max_steps=6,
            micro_batch_pairs=1,
            tune=tune,
            log_interval_epochs=1.5,
        )
        for name in ("unbroken", "broken")
    )
    run(unbroken)
    result, recorder = run(broken, stop_after=4)
    assert (result.ended, result.steps) == ("stopped", 4)
    assert not list(Path(broken.output_dir).glob("checkpoint-*"))
    result, recorder = run(broken)
    assert (result.ended, recorder.summary["first_step"]) == ("completed", 4)
    assert [stats.step for stats in recorder.steps] == [5, 6]
    assert lines(broken) == lines(unbroken)
    assert weights(broken).keys() == weights(unbroken).keys()
    assert all(torch.equal(tensor, weights(broken)[name]) for name, tensor in weights(unbroken).items())
    assert (tmp_path / "broken/model_config.json").read_text() == (tmp_path / "unbroken/model_config.json").read_text()


@pytest.mark.slow
def test_a_killed_training_goes_on_from_its_checkpoint_and_forgets_later_lines(folder: Path, tmp_path: Path) -> None:
    config = toy.config(folder, output_dir=str(tmp_path), max_steps=4, checkpoint_interval_epochs=1.0)
    run(config)
    unbroken = lines(config)
    shutil.rmtree(tmp_path / "state" / "000000004")  # as if it had died between steps 3 and 4
    shutil.rmtree(tmp_path / "checkpoint-4")
    _, recorder = run(config)
    assert [stats.step for stats in recorder.steps] == [3, 4]
    assert lines(config) == unbroken


def test_a_finished_training_is_left_as_it_is(folder: Path, tmp_path: Path) -> None:
    config = toy.config(folder, output_dir=str(tmp_path))
    first, _ = run(config)
    before = (tmp_path / "checkpoint-3" / "model.safetensors").stat().st_mtime_ns
    again, recorder = run(config)
    assert recorder.steps == []
    assert again == first
    assert (tmp_path / "checkpoint-3" / "model.safetensors").stat().st_mtime_ns == before


def test_only_the_two_newest_checkpoints_are_kept(folder: Path, tmp_path: Path) -> None:
    run(toy.config(folder, output_dir=str(tmp_path), max_steps=5))
    assert sorted(path.name for path in (tmp_path / "state").iterdir()) == ["000000004", "000000005"]


def test_other_settings_or_other_data_do_not_go_on(folder: Path, tmp_path: Path) -> None:
    own = tmp_path / "own"
    shutil.copytree(folder, own)
    run(toy.config(own), stop_after=1)
    with pytest.raises(InputError, match=r"with other settings: loss\.theta 5\.0, now 3\.0"):
        run(toy.config(own, loss={"theta": 3.0}))
    toy.write_pairs(own, toy.ROWS[:-1])
    with pytest.raises(WeightsMismatchError, match="CSV files have changed"):
        run(toy.config(own))


def test_how_fast_it_reads_may_change(folder: Path, tmp_path: Path) -> None:
    run(toy.config(folder, output_dir=str(tmp_path)), stop_after=1)
    result, _ = run(toy.config(folder, output_dir=str(tmp_path), data={"workers": 1, "cache_mib": 10}))
    assert result.ended == "completed"


def test_a_folder_of_something_else_is_left_alone(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(InputError, match="holds something else than a training"):
        run(toy.config(folder, output_dir=str(tmp_path)))
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_held_out_pairs_are_measured_before_while_and_after(folder: Path, tmp_path: Path) -> None:
    config = toy.config(folder, output_dir=str(tmp_path), max_steps=4, evaluation_interval_epochs=1.0)
    result, recorder = run(config)
    assert [line["step"] for line in recorder.measured] == [0, 2, 4]
    assert recorder.measured[-1]["heldout"] == result.heldout
    assert recorder.measured[0]["heldout"]["VQ"].keys() == {"accuracy", "tie_auc", "clear", "tied"}
    assert (tmp_path / "curve.png").stat().st_size > 1000
    assert result.data["training_examples"] + result.data["heldout_examples"] == 6
    assert result.data["heldout_prompts_in_training"] == 0


def test_a_held_out_file_is_measured_on_and_prompts_in_common_are_counted(folder: Path, tmp_path: Path) -> None:
    heldout = toy.write_csv(tmp_path / "heldout.csv", "path_A,path_B,prompt,VQ,MQ,TA", toy.ROWS[:2])
    data = {"heldout": str(heldout), "videos": str(folder)}
    result, _ = run(toy.config(folder, output_dir=str(tmp_path / "out"), data=data))
    assert (result.data["training_examples"], result.data["heldout_examples"]) == (6, 2)
    assert result.data["heldout_prompts_in_training"] == 1


def test_ties_are_measured_on_although_plain_bradley_terry_does_not_learn_from_them(
    folder: Path, tmp_path: Path
) -> None:
    rows = [("0.mp4", "1.mp4", "new", "same", "same", "same"), ("0.mp4", "2.mp4", "new", "A", "A", "A")]
    heldout = toy.write_csv(tmp_path / "heldout.csv", "path_A,path_B,prompt,VQ,MQ,TA", rows)
    data = {"heldout": str(heldout), "videos": str(folder)}
    result, _ = run(toy.config(folder, output_dir=str(tmp_path / "out"), loss={"type": "bt"}, data=data))
    assert result.heldout is not None
    assert all((values["clear"], values["tied"]) == (1, 1) for values in result.heldout.values())


@pytest.mark.slow
def test_regression_learns_ratings(folder: Path, tmp_path: Path) -> None:
    rows = [(f"{n}.mp4", f"prompt {m}", n, 3 - n, 2 if n == 0 else "") for n in range(4) for m in range(3)]
    ratings = toy.write_csv(tmp_path / "ratings.csv", "path,prompt,VQ,MQ,TA", rows)
    config = toy.config(
        folder,
        output_dir=str(tmp_path / "out"),
        data={"train": str(ratings), "videos": str(folder), "cache_mib": 10},
        loss={"type": "regression"},
        tune={"llm": "full"},
        optimizer=dict.fromkeys(toy.RATES, 3e-3),
        max_steps=40,
        batch_pairs=8,
        micro_batch_pairs=8,
        evaluation_interval_epochs=100.0,
    )
    _, recorder = run(config)
    first, last = recorder.measured[0]["heldout"], recorder.measured[-1]["heldout"]
    assert min(values["squared_error"] for values in first.values()) > 1
    assert max(values["squared_error"] for values in last.values()) < 0.3
    assert last["VQ"]["spearman"] > 0.9 and last["MQ"]["spearman"] > 0.9
    assert last["TA"]["rated"] == 1


def test_without_held_out_prompts_nothing_is_measured(folder: Path, tmp_path: Path) -> None:
    result, recorder = run(toy.config(folder, output_dir=str(tmp_path), data={"heldout_share": 0}))
    assert result.heldout is None and recorder.measured == []


def test_a_truncated_video_stops_the_training_with_its_name_unless_it_is_to_be_left_out(
    folder: Path, tmp_path: Path
) -> None:
    own = tmp_path / "own"
    shutil.copytree(folder, own)
    (own / "3.mp4").write_bytes((folder / "3.mp4").read_bytes()[:-900])
    with pytest.raises(InputError, match=r"3\.mp4 is truncated"):
        run(toy.config(own, output_dir=str(tmp_path / "strict")))
    result, _ = run(toy.config(own, output_dir=str(tmp_path / "lenient"), data={"skip_unreadable": True}))
    assert result.ended == "completed"
    assert result.data["unreadable_videos"] == 1


def test_a_device_that_is_not_there_is_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"model\.device: 'cuda:97'"):
        run(toy.config(folder, output_dir=str(tmp_path / "out"), model={"device": "cuda:97"}))
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_damaged_checkpoint_or_a_torn_line_costs_no_more_than_the_work_after_the_one_before(
    folder: Path, tmp_path: Path
) -> None:
    config = toy.config(folder, output_dir=str(tmp_path), max_steps=4, log_interval_epochs=0.1)
    run(config)
    unbroken = lines(config)
    damaged = tmp_path / "state" / "000000004" / "learner.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:1000])
    shutil.rmtree(tmp_path / "checkpoint-4")
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "epo')
    _, recorder = run(config)
    assert [stats.step for stats in recorder.steps] == [4]
    assert lines(config) == unbroken


def test_a_stop_while_the_model_is_loaded_is_obeyed(folder: Path, tmp_path: Path) -> None:
    recorder = toy.Recorder()
    config = toy.config(folder, output_dir=str(tmp_path))
    result = train_video_reward(config, recorder, should_stop=lambda: True)
    assert (result.ended, result.steps, recorder.steps) == ("stopped", 0, [])
    assert run(config)[0].ended == "completed"
