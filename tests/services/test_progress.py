import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from services.progress import LiveProgress, PlainProgress, describe_update, progress_for
from tests.services.fake_run import fake_config, fake_line


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def run_plainly(tmp_path: Path, updates: int, seconds_per_update: float, first: int = 0) -> list[str]:
    stream, clock = io.StringIO(), Clock()
    progress = PlainProgress(stream, clock)
    progress.on_start(tmp_path, fake_config(tmp_path, updates=updates), first)
    progress.on_stage("train")
    for update in range(first, updates):
        clock.now += seconds_per_update
        progress.on_update(fake_line(update))
    progress.close()
    return stream.getvalue().splitlines()


def test_an_update_in_one_line() -> None:
    line: dict[str, Any] = {
        "update": 3, "reward_mean": 0.5, "reward_p10": -0.25, "reward_p90": 1.25, "implicit_accuracy": 0.625,
        "loss": 0.65,
    }  # fmt: skip
    assert describe_update(line) == "reward +0.500 [-0.25, +1.25], implicit accuracy 0.62, loss 0.6500"
    assert describe_update({"update": 3, "loss": None}) == "skipped: no group had a usable pair"


def test_plain_lines_say_speed_and_time_left(tmp_path: Path) -> None:
    lines = run_plainly(tmp_path, updates=60, seconds_per_update=2.0)
    assert lines[0] == f"run {tmp_path} (60 updates)" and lines[1] == "learning"
    assert lines[2].startswith("update 2/60: reward ") and lines[2].endswith("16.0 videos/s, 1 min 56 s left")
    assert lines[-1].startswith("update 60/60") and lines[-1].endswith("0 s left")
    assert len(lines) == 32


def test_a_slow_run_says_every_update(tmp_path: Path) -> None:
    assert len(run_plainly(tmp_path, updates=60, seconds_per_update=40.0)) == 62


def test_a_resumed_run_says_where_it_goes_on(tmp_path: Path) -> None:
    assert run_plainly(tmp_path, updates=60, seconds_per_update=1.0, first=58)[0].endswith("resumed at update 58)")


def test_the_live_bar_shows_stage_reward_and_eta(tmp_path: Path) -> None:
    stream = io.StringIO()
    progress = LiveProgress(Console(file=stream, force_terminal=True, width=160))
    progress.on_start(tmp_path, fake_config(tmp_path, updates=5), 0)
    progress.on_stage("startup")
    progress.on_stage("train")
    for update in range(5):
        progress.on_update(fake_line(update))
    progress.on_validation({"policy_version": 5, "reward_mean": 0.25})
    progress.on_event("generator 1 died [/red] and was replaced")
    progress.close()
    progress.close()
    shown = stream.getvalue()
    for words in ("starting", "learning", "5/5", "reward +", "implicit accuracy", "videos/s", "left"):
        assert words in shown
    assert "validation of version 5: reward +0.250" in shown
    assert "died [/red] and was replaced" in shown  # brackets are not markup


@pytest.mark.parametrize(("is_terminal", "kind"), [(False, PlainProgress), (True, LiveProgress)])
def test_the_stream_decides(is_terminal: bool, kind: type) -> None:
    class Stream(io.StringIO):
        def isatty(self) -> bool:
            return is_terminal

    assert type(progress_for(Stream())) is kind
