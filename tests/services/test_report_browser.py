"""The report in a real browser: it draws itself, without an error, and runs nothing that a user wrote."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from services.report import write_report
from tests.services.fake_run import fake_run_dir
from tests.services.test_report import ATTACK

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
QUIET = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --enable-logging=stderr --v=0 --virtual-time-budget=3000"
)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason="no chromium or chrome on this machine"),
]


def open_in_browser(page: Path, profile: Path) -> tuple[str, list[str]]:
    """The page's elements after its script ran, and what it wrote to the console."""
    assert BROWSER is not None
    command = [BROWSER, *QUIET.split(), f"--user-data-dir={profile}", "--dump-dom", page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


def test_a_finished_run_is_drawn_without_an_error(tmp_path: Path) -> None:
    page, console = open_in_browser(write_report(fake_run_dir(tmp_path / "runs")), tmp_path / "profile")
    assert console == []
    assert 'data-ready="true"' in page
    assert len(re.findall(r"<canvas", page)) == 20 and len(re.findall(r"<video", page)) == 8
    for heading in ("Result", "Before and after", "Reward", "Learning", "Time", "Pairs", "Configuration", "Versions"):
        assert f">{heading}</h2>" in page


@pytest.mark.parametrize("updates", [0, 1])
def test_a_run_that_has_barely_begun_is_drawn_without_an_error(tmp_path: Path, updates: int) -> None:
    run_dir = fake_run_dir(tmp_path / "runs", updates=updates, finished=False)
    page, console = open_in_browser(write_report(run_dir), tmp_path / "profile")
    assert console == [] and 'data-ready="true"' in page


def test_what_a_user_wrote_never_runs(tmp_path: Path) -> None:
    run_dir = fake_run_dir(tmp_path / "runs", updates=3, prompt=ATTACK)
    page, console = open_in_browser(write_report(run_dir), tmp_path / "profile")
    assert console == [] and 'data-ready="true"' in page
    assert "<title>demo-seed0</title>" in page
    assert "&lt;img src=x onerror=" in page and "<img" not in page
