from pathlib import Path

import pytest

from cluster.run_facts import events_of, line_of, lines_between, pairs_of, samples_of, validation_of
from cluster.store.run_items import Side
from tests.cluster.written_run import metrics_line, new_run, write_samples, write_update, write_validation


def test_the_numbers_of_a_line_are_its_curves() -> None:
    assert dict(line_of(metrics_line(3)).points) == {
        "loss": 0.5, "reference_version": 0.0, "reward_mean": 0.3, "scores.VQ.mean": 1.0, "scores.VQ.std": 0.5,
        "scores.MQ.mean": 3.0, "seconds.generate": 0.5, "seconds.wait": 0.25,
    }  # fmt: skip


def test_a_validation_stands_at_the_update_that_made_its_version(tmp_path: Path) -> None:
    found = validation_of(write_validation(new_run(tmp_path), 5))
    assert found.update == 4
    assert dict(found.points) == {
        "validation.reward_mean": 0.75, "validation.scores.VQ": 1.5, "validation.samples": 4.0,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("update", "loss", "events"),
    [(0, 0.5, []), (1, 0.5, []), (5, 0.5, ["swap"]), (6, None, ["skipped"]), (10, None, ["swap", "skipped"])],
)
def test_swaps_and_skipped_batches_are_seen_in_a_line(update: int, loss: float | None, events: list[str]) -> None:
    found = events_of(metrics_line(update, loss=loss))
    assert [event.what for event in found] == events and all(event.update == update for event in found)


def test_a_pair_says_why_it_was_chosen_and_which_dimensions_disagree(tmp_path: Path) -> None:
    directory = new_run(tmp_path)
    line = write_update(directory, 3)
    directory.latents_file("u000003-p000").write_bytes(b"")
    first, second = pairs_of(directory, 3, line["group_ids"])
    assert first.chosen == Side(seed=7, reward=1.0, scores={"VQ": 1.0, "MQ": 1.0})
    assert first.rejected == Side(seed=2**62, reward=0.0, scores={"VQ": 0.0, "MQ": 0.5})
    assert (first.margin, first.conflicts, second.conflicts) == (1.0, (), ("MQ",))
    assert (first.prompt_id, first.prompt, first.policy_version) == ("prompt-0", "a red square", 3)
    assert dict(first.files) == {"latents": "groups/000003/u000003-p000.safetensors"} and not second.files


def test_groups_that_cannot_be_read_are_left_out(tmp_path: Path) -> None:
    directory = new_run(tmp_path)
    line = write_update(directory, 3)
    directory.group_file("u000003-p000").write_text("{")
    assert [pair.group_id for pair in pairs_of(directory, 3, [*line["group_ids"], "u000009-p000"])] == ["u000003-p001"]


def test_samples_are_those_of_the_first_version_and_of_the_tested_one(tmp_path: Path) -> None:
    directory = new_run(tmp_path)
    assert samples_of(directory) == []
    write_samples(directory, 40)
    found = [(sample.name, sample.file, sample.policy_version) for sample in samples_of(directory)]
    assert found == [
        ("a-red-square-before", "samples/a-red-square-before.mp4", 0),
        ("a-red-square-after", "samples/a-red-square-after.mp4", 40),
    ]


def test_lines_of_a_range_are_read_and_damaged_ones_left_out(tmp_path: Path) -> None:
    directory = new_run(tmp_path)
    for update in range(6):
        write_update(directory, update)
    with directory.metrics.open("a") as file:
        file.write('{"no": 1}\n[]\nnot json\n{"torn": "line", "update": 4')
    assert [line["update"] for line in lines_between(directory.metrics, 2, 5)] == [2, 3, 4]
    assert list(lines_between(tmp_path / "none", 0, 9)) == []
