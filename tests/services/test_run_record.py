from pathlib import Path
from typing import Any

from services.run_record import MAX_POINTS, RunRecord, curves, for_browser, pairs_of, swaps
from tests.services.fake_run import fake_line, fake_run_dir


def test_swaps_are_where_the_reference_becomes_the_policy() -> None:
    assert swaps([fake_line(update) for update in range(60)]) == [20, 40]
    assert swaps([fake_line(update, interval=1000) for update in range(60)]) == []
    assert swaps([]) == []


def test_curves_are_columns_of_every_number() -> None:
    columns = curves([fake_line(0), {**fake_line(1), "reward_mean": None, "new_metric": 3}])
    assert columns["update"] == [0.0, 1.0]
    assert columns["reward_mean"][1] is None
    assert columns["new_metric"] == [None, 3.0]
    assert columns["scores.VQ.p10"][0] is not None and columns["seconds.generate"][0] is not None
    assert not {"loss_hex", "pids.scorer", "policy_version"} & set(columns)


def test_long_runs_are_thinned_by_averaging() -> None:
    lines: list[dict[str, Any]] = [{"update": update, "loss": float(update % 2)} for update in range(2 * MAX_POINTS)]
    columns = curves(lines)
    assert len(columns["update"]) == MAX_POINTS and columns["update"][-1] == 2 * MAX_POINTS - 1
    assert set(columns["loss"]) == {0.5}


def test_numbers_that_a_browser_would_break_become_null_or_text() -> None:
    assert for_browser({"a": [float("nan"), 2**53 - 1, 2**53, True]}) == {"a": [None, 2**53 - 1, str(2**53), True]}


def test_damaged_files_are_left_out_and_said(tmp_path: Path) -> None:
    run_dir = fake_run_dir(tmp_path, updates=3)
    with (run_dir / "metrics.jsonl").open("a") as file:
        file.write('{"update": 3, "loss"')
    (run_dir / "test.json").write_text("{")
    record = RunRecord.read(run_dir, {})
    assert [line["update"] for line in record.lines] == [0, 1, 2]
    assert record.test is None
    assert [note.split(" could")[0] for note in record.notes] == ["metrics.jsonl:4", "test.json"]


def test_pairs_keep_their_update() -> None:
    entries = pairs_of([fake_line(update) for update in range(500)])
    assert (len(entries), entries[0]["update"], len(entries[0]["pairs"])) == (400, 100, 8)
