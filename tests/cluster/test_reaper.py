"""Real processes, no Ray: a driver that is killed, its children, and processes that have nothing to do with it."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from cluster.reaper import TEMPORARY_PREFIX, TOKEN_VARIABLE, Reaper, members, remove_temporary

# A driver: starts a reaper, two children that ignore SIGTERM (one leaves the session), tells their pids, then waits.
DRIVER = """
import json, os, subprocess, sys
from pathlib import Path
from cluster.reaper import TOKEN_VARIABLE, Reaper
token, temporary, ending = sys.argv[1:]
reaper = Reaper(token=token, temporary=Path(temporary))
os.environ[TOKEN_VARIABLE] = token
child = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
children = [subprocess.Popen([sys.executable, "-c", child], start_new_session=away) for away in (False, True)]
print(json.dumps([c.pid for c in children]), flush=True)
sys.stdin.readline()
reaper.dismiss()
"""
SLEEPER = [sys.executable, "-c", "import time; time.sleep(600)"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / f"{TEMPORARY_PREFIX}test"
    (made / "inner").mkdir(parents=True)
    return made


@pytest.fixture
def stranger() -> Iterator[subprocess.Popen[bytes]]:
    """A process of another run: same program, another token."""
    process = subprocess.Popen(SLEEPER, env=os.environ | {TOKEN_VARIABLE: "another-run"})
    yield process
    process.kill()
    process.wait()


def start_driver(token: str, folder: Path) -> tuple[subprocess.Popen[str], list[psutil.Process]]:
    driver = subprocess.Popen(
        [sys.executable, "-c", DRIVER, token, str(folder), "x"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert driver.stdout is not None
    return driver, [psutil.Process(pid) for pid in json.loads(driver.stdout.readline())]


def await_end(processes: list[psutil.Process], folder: Path) -> None:
    psutil.wait_procs(processes, timeout=10)
    assert [process for process in processes if process.is_running() and process.status() != "zombie"] == []
    deadline = time.monotonic() + 10
    while folder.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not folder.exists()


@pytest.mark.slow
def test_children_of_a_killed_driver_end_and_others_live_on(folder: Path, stranger: subprocess.Popen[bytes]):
    driver, children = start_driver("token-killed", folder)
    driver.send_signal(signal.SIGKILL)
    driver.communicate()
    await_end(children, folder)
    assert stranger.poll() is None


def test_a_driver_that_leaves_in_order_waits_for_the_end_of_leftovers(folder: Path):
    driver, children = start_driver("token-orderly", folder)
    driver.communicate("go\n", timeout=30)
    assert driver.returncode == 0
    assert [child for child in children if child.is_running() and child.status() != "zombie"] == []
    assert not folder.exists()


def test_the_reaper_itself_ends(folder: Path):
    reaper = Reaper(token="token-nobody", temporary=folder)
    reaper.dismiss()
    assert reaper._process.poll() == 0


def test_members_are_found_by_their_token_alone(stranger: subprocess.Popen[bytes]):
    mine = subprocess.Popen(SLEEPER, env=os.environ | {TOKEN_VARIABLE: "token-mine"})
    try:
        assert [process.pid for process in members("token-mine")] == [mine.pid]
    finally:
        mine.kill()
        mine.wait()


def test_only_folders_of_runs_are_removed(tmp_path: Path, folder: Path):
    precious = tmp_path / "precious"
    precious.mkdir()
    link = tmp_path / f"{TEMPORARY_PREFIX}link"
    link.symlink_to(precious)
    for path in (precious, link, folder):
        remove_temporary(path)
    assert precious.exists() and link.exists() and not folder.exists()
