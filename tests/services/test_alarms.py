from typing import Any

import pytest

from services.alarms import alarms
from tests.services.fake_run import FAKE_TEST, fake_line


def lines_with(**changes: Any) -> list[dict[str, Any]]:
    return [{**fake_line(update), **changes} for update in range(30)]


def test_a_healthy_run_raises_none() -> None:
    assert alarms([fake_line(update) for update in range(60)], FAKE_TEST) == []
    assert alarms([], None) == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"chosen_error_delta": 0.2, "rejected_error_delta": 0.3}, "likelihood displacement"),
        ({"gate_openness": 0.05}, "The gate is 0.05 open"),
        ({"drop_rate": 0.75}, "75% of the newest groups were dropped"),
        ({"loss": None}, "30 of 30 updates were skipped"),
    ],
)
def test_signs_in_the_curves(changes: dict[str, Any], said: str) -> None:
    (alarm,) = alarms(lines_with(**changes), None)
    assert said in alarm


def test_candidates_that_become_alike() -> None:
    lines = [{"update": update, "loss": 0.6, "diversity": 1.0 if update < 10 else 0.3} for update in range(30)]
    assert "differ 30% as much as at the start" in alarms(lines, None)[0]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"ground_truth_after": 0.5, "ground_truth_after_energy_matched": 0.5}, "reward hacking"),
        ({"ground_truth_after_energy_matched": 0.66}, "most of it is brightness"),
        ({"diversity_after": 0.02}, "diversity collapsed"),
    ],
)
def test_signs_in_the_test(changes: dict[str, Any], said: str) -> None:
    (alarm,) = alarms([], {**FAKE_TEST, **changes})
    assert said in alarm
