"""A server that is killed leaves nothing behind, however many processes it had started."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from cluster.reaper import TOKEN_VARIABLE, members

pytestmark = [pytest.mark.ray, pytest.mark.slow]

ROOT = Path(__file__).parents[3]
GONE_S = 10.0


@pytest.fixture
def server() -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    """The process of a server that is up, and what it says about itself."""
    environment = {name: value for name, value in os.environ.items() if name != TOKEN_VARIABLE}
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.cluster.serving.serve_toys"],
        stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environment | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert process.stdout is not None
    yield process, json.loads(process.stdout.readline())
    process.kill()
    process.wait()
    process.stdout.close()


def test_after_a_kill_no_process_no_port_and_no_folder_is_left(
    server: tuple[subprocess.Popen[str], dict[str, Any]],
) -> None:
    process, up = server
    family = {one.pid: one for one in [*psutil.Process(process.pid).children(recursive=True), *members(up["token"])]}
    assert set(up["replicas"]) <= set(family) and len(family) > 6
    others = {one.pid for one in psutil.process_iter()} - set(family)
    ports = {one.laddr.port for one in listening() if one.pid in family}
    assert ports
    process.kill()
    process.wait()
    _, alive = psutil.wait_procs(list(family.values()), timeout=GONE_S)
    assert [one for one in alive if one.status() != psutil.STATUS_ZOMBIE] == []
    assert not [one for one in listening() if one.laddr.port in ports and (one.pid is None or one.pid in others)]
    deadline = time.monotonic() + GONE_S  # the folder goes last, after the reaper has seen that nobody is left
    while Path(up["folder"]).exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not Path(up["folder"]).exists()


def listening() -> list[Any]:
    return [one for one in psutil.net_connections("tcp") if one.status == psutil.CONN_LISTEN]
