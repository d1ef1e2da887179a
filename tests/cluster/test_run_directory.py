from pathlib import Path

import pytest

from cluster.config import RunConfig
from cluster.run_directory import RunDirectory, config_digest, differing_keys, sha256, write_atomic, write_json
from policies.errors import InputError


def config(**changes: object) -> RunConfig:
    return RunConfig.model_validate({"policy": {"path": "shapes"}, "prompts": {"train": "shapes:train"}} | changes)


def commit(directory: RunDirectory, update: int, content: bytes = b"state") -> None:
    folder = directory.checkpoint_folder(update)
    write_atomic(folder / "learner.safetensors", content)
    (directory.weights / f"{update:06d}").mkdir(parents=True)
    directory.commit(
        update=update,
        position=update + 1,
        reference_version=0,
        weights_hash=f"hash-{update}",
        files={"learner.safetensors": sha256(folder / "learner.safetensors")},
        group_ids=[],
    )


def test_the_configuration_reads_back_equal(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path / "run")
    directory.create(config(updates=7, seed=3))
    assert directory.read_config() == config(updates=7, seed=3)


def test_another_configuration_is_refused_and_its_keys_named(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path / "run")
    directory.create(config(seed=1))
    with pytest.raises(InputError, match=r"differs in learner\.learning_rate, seed"):
        directory.create(config(seed=2, learner={"learning_rate": 0.5}))
    assert directory.read_config() == config(seed=1)


def test_a_folder_with_other_files_is_not_taken_for_a_run(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.txt").write_text("do not touch")
    with pytest.raises(InputError, match="is not a run"):
        RunDirectory(tmp_path / "run").create(config())


def test_a_run_inside_a_run_is_refused(tmp_path: Path) -> None:
    RunDirectory(tmp_path / "run").create(config())
    with pytest.raises(InputError, match="itself the directory of a run"):
        RunDirectory(tmp_path / "run" / "inner").create(config())


def test_the_digest_depends_on_the_configuration_and_not_on_the_place() -> None:
    assert config_digest(config(output_dir="a", run_id="x")) == config_digest(config(output_dir="b", run_id="y"))
    assert config_digest(config(seed=1)) != config_digest(config(seed=2))


def test_differing_keys_are_dotted() -> None:
    assert differing_keys(config(), config(objective={"beta": 7.0}, updates=3)) == ["objective.beta", "updates"]


def test_the_newest_commit_is_the_newest_whose_files_match(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    assert directory.newest_commit() is None
    for update in (0, 4, 8):
        commit(directory, update)
    (directory.checkpoint_folder(8) / "learner.safetensors").write_bytes(b"torn")
    write_atomic(directory.checkpoint_folder(12) / "learner.safetensors", b"no manifest yet")
    newest = directory.newest_commit()
    assert newest is not None
    assert (newest.update, newest.position, newest.weights_hash) == (4, 5, "hash-4")


def test_what_lies_above_the_commit_is_void(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    for update in (0, 2):
        commit(directory, update)
    (directory.weights / "000003").mkdir()
    write_atomic(directory.checkpoint_folder(3) / "learner.safetensors", b"no manifest")
    for update in range(4):
        directory.append_metrics({"update": update})
    with directory.metrics.open("a") as file:
        file.write('{"update": 4, "lo')  # the crash tore this line
    directory.void_after(2)
    assert [line["update"] for line in directory.read_metrics()] == [0, 1]
    assert sorted(folder.name for folder in directory.weights.iterdir()) == ["000000", "000002"]
    assert sorted(folder.name for folder in directory.checkpoints.iterdir()) == ["000000", "000002"]


def test_pruning_keeps_the_last_commits_the_named_ones_and_the_initial_weights(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    for update in (0, 2, 4, 6, 8):
        commit(directory, update)
    directory.prune_commits(keep_last=2, keep={4})
    assert sorted(folder.name for folder in directory.checkpoints.iterdir()) == ["000004", "000006", "000008"]
    assert sorted(folder.name for folder in directory.weights.iterdir()) == ["000000", "000004", "000006", "000008"]


def test_a_group_whose_latents_do_not_match_counts_as_unfinished(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    write_atomic(directory.latents_file("u000001-p000"), b"latents")
    digest = sha256(directory.latents_file("u000001-p000"))
    write_json(directory.group_file("u000001-p000"), {"latents_sha256": digest})
    assert directory.read_group("u000001-p000") == {"latents_sha256": digest}
    write_atomic(directory.latents_file("u000001-p000"), b"torn")
    assert directory.read_group("u000001-p000") is None
    assert directory.read_group("u000001-p001") is None


def test_latents_of_long_committed_batches_go_and_outcomes_stay(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    for batch in (1, 2):
        write_atomic(directory.latents_file(f"u{batch:06d}-p000"), b"latents")
        write_json(directory.group_file(f"u{batch:06d}-p000"), {"latents_sha256": None})
    directory.prune_latents(before_batch=2)
    assert not directory.latents_file("u000001-p000").exists()
    assert directory.group_file("u000001-p000").exists()
    assert directory.latents_file("u000002-p000").exists()


def test_numbers_that_json_does_not_know_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "x.json", {"loss": float("nan")})
    assert list(tmp_path.iterdir()) == []
