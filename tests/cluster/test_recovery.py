"""On real Ray with the bundled models: whatever dies, and whenever, the run comes out the same to the last bit."""

import contextlib
import secrets
import signal
from pathlib import Path

import psutil
import pytest

from cluster.controller import run
from cluster.observer import SilentObserver
from tests.cluster.crashes import MOMENTS, identity, run_apart, run_with_crashes, same_state, tiny

pytestmark = [
    pytest.mark.ray,
    pytest.mark.slow,
    # Ray's own, from what it imports and from processes that a test kills
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning"),
]

UPDATES = 33  # with a commit every third update, room for two crashes of each part around one


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run in one piece and one process."""
    config = tiny(tmp_path_factory.mktemp("runs"), run_id="unbroken", mode="in_process", updates=UPDATES)
    return run(config, observer=SilentObserver()).run_dir


def test_a_run_that_loses_every_part_at_every_moment_equals_the_unbroken_one_in_one_process(
    unbroken: Path, tmp_path: Path
) -> None:
    crashes = [
        {"role": role, "moment": moment, "update": 1 + 6 * order}
        for order, role in enumerate(("generators", "scorer", "mailbox", "learner"))
        for moment in MOMENTS
    ]
    done = run_with_crashes(tiny(tmp_path, run_id="battered", mode="split", updates=UPDATES), crashes)
    assert len(done) == len(crashes)
    assert identity(tmp_path / "battered") == identity(unbroken)
    assert same_state(tmp_path / "battered", unbroken)


def test_a_killed_driver_leaves_no_process_and_is_resumed_to_the_same_run(unbroken: Path, tmp_path: Path) -> None:
    config = tiny(tmp_path, run_id="killed", mode="split", updates=UPDATES)
    mark = {"ONLINEVPO_TEST_MARK": secrets.token_hex(8)}  # every process of that run inherits it, the reaper too
    crash = {"update": 8, "role": "driver", "moment": "saved"}
    assert run_apart(config, [crash], tmp_path, environment=mark) == -signal.SIGKILL
    _, alive = psutil.wait_procs(marked(mark["ONLINEVPO_TEST_MARK"]), timeout=10)
    assert alive == []
    assert marked(mark["ONLINEVPO_TEST_MARK"]) == []
    result = run(config, observer=SilentObserver())
    assert result.ended == "completed"
    assert identity(result.run_dir) == identity(unbroken)
    assert same_state(result.run_dir, unbroken)


def marked(mark: str) -> list[psutil.Process]:
    """Processes that were started with this mark in their environment."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.environ().get("ONLINEVPO_TEST_MARK") == mark:
                found.append(process)
    return found
