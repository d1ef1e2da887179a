"""What callers notice when the service is restarted or killed."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from policies.shapes.clips import CLIPS, clip_path
from services.client import Score, ScoringError
from tests.services.serving.running_server import RunningServer

pytestmark = [pytest.mark.ray, pytest.mark.slow]
CIRCLE, PROMPT = clip_path("shapes:circle"), CLIPS["circle"].prompt
CALLERS = 4


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    running = RunningServer(tmp_path_factory.mktemp("restarts"))
    running.start()
    yield running
    running.close()


class Load:
    """Callers who score one video after another, until they are told to stop."""

    def __init__(self, server: RunningServer) -> None:
        self._server, self._is_over = server, threading.Event()
        self.scores: list[Score] = []
        self.errors: list[ScoringError] = []
        self._threads = [threading.Thread(target=self._call) for _ in range(CALLERS)]

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        for thread in self._threads:
            thread.join(180)

    def goes_on(self) -> None:
        """Returns once the callers have got some more scores."""
        wanted, deadline = len(self.scores) + 5 * CALLERS, time.monotonic() + 60
        while len(self.scores) < wanted:
            assert time.monotonic() < deadline, self.errors
            time.sleep(0.02)

    def _call(self) -> None:
        with self._server.client(timeout_s=170) as client:
            while not self._is_over.is_set():
                try:
                    self.scores.append(client.score(video=CIRCLE, prompt=PROMPT))
                except ScoringError as error:
                    self.errors.append(error)
                self._is_over.wait(0.02)


def test_two_restarts_under_load_cost_no_caller_an_error(server: RunningServer) -> None:
    with Load(server) as load:
        for _ in range(2):
            load.goes_on()
            family = server.family()
            assert server.end() == 128 + signal.SIGTERM
            assert psutil.wait_procs(family, timeout=10)[1] == [], "it left processes"
            assert "key" not in server.start(), "a key is shown once"
        load.goes_on()
    assert load.errors == []
    assert len({score.reward for score in load.scores}) == 1


def test_after_sigkill_nothing_is_left_and_what_was_acknowledged_is_done_once(server: RunningServer) -> None:
    with server.client() as client:
        job = client.jobs.submit([(CIRCLE, PROMPT)] * 1024)
        next(event for event in client.jobs.events(job.id) if event.data.get("state") == "running")
    family = server.family()
    os.kill(server.process.pid, signal.SIGKILL)
    server.process.wait(10)
    assert psutil.wait_procs(family, timeout=10)[1] == [], "it left processes"
    with socket.socket() as free:
        free.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        free.bind(("127.0.0.1", server.port))
    server.start()
    with server.client() as client:
        ended = client.jobs.wait(job.id, timeout_s=60)
        states = [event.data["state"] for event in client.jobs.events(job.id) if event.kind == "state"]
        jobs = client.jobs.list()
    assert (ended.state, ended.attempt, [one.id for one in jobs]) == ("succeeded", 2, [job.id])
    assert ended.scores is not None and len(ended.scores) == 1024
    assert all(isinstance(score, Score) for score in ended.scores)
    assert states == ["queued", "running", "running", "succeeded"]


def test_the_service_ends_when_ray_does_and_leaves_nothing(server: RunningServer) -> None:
    family = server.family()
    next(process for process in family if process.name() == "raylet").kill()
    assert server.process.wait(60) == 3
    assert "Ray's raylet ended; start the service again" in server.stderr.read_text()
    assert psutil.wait_procs(family, timeout=10)[1] == [], "it left processes"


def test_told_to_stop_before_it_is_up_it_leaves_at_once(tmp_path: Path) -> None:
    starting = subprocess.Popen(
        [sys.executable, "-m", "services.cli", "serve", "--port", "0", "--data-dir", str(tmp_path)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    assert starting.stderr is not None
    while "starting Ray" not in (line := starting.stderr.readline()):
        assert line, "it ended by itself"
    starting.terminate()
    said, _ = starting.communicate(timeout=60)
    assert (starting.returncode, said) == (128 + signal.SIGTERM, "")
