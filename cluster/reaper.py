"""Ends what is left of a run when its driver is gone: `python -m cluster.reaper`, a process of its own session.

It holds the read end of a pipe whose only write end is the driver's, so it notices the driver's death however that
came. The first line on the pipe names the run's token and temporary folder; `goodbye` before the end of the pipe only
says that the driver left in order, since Ray's agents outlive an orderly shutdown, too.

A process belongs to the run if its environment, as it was started with, holds the token. Nothing else is ever ended.
Standard library and psutil only, so that it is up long before anything that it may have to end.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import IO

import psutil

TOKEN_VARIABLE = "ONLINEVPO_RUN_TOKEN"
TEMPORARY_PREFIX = "ovpo-"
GOODBYE = "goodbye"
SWEEP_LIMIT_S = 60.0
QUIET_SCANS = 3  # scans in a row that must find nothing: a process between fork and exec can slip through one


def members(token: str) -> list[psutil.Process]:
    """Every process that was started with this run's token in its environment, this one excepted."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and process.environ().get(TOKEN_VARIABLE) == token:
                found.append(process)
        except (psutil.Error, OSError):
            continue  # gone by now, a zombie, or somebody else's
    return found


def sweep(token: str, *, limit_s: float = SWEEP_LIMIT_S) -> bool:
    """Kills the members of a run until none is left. False when some outlived the limit."""
    quiet, deadline = 0, time.monotonic() + limit_s
    while quiet < QUIET_SCANS:
        if time.monotonic() > deadline:
            return False
        found = members(token)
        for process in found:
            try:
                process.kill()  # psutil compares the creation time first: a reused pid is left alone
            except psutil.Error:
                continue
        quiet = 0 if found else quiet + 1
        time.sleep(0.05)
    return True


def remove_temporary(folder: Path) -> None:
    """Deletes a run's temporary folder; refuses anything that does not look like one."""
    if folder.name.startswith(TEMPORARY_PREFIX) and folder.is_dir() and not folder.is_symlink():
        shutil.rmtree(folder, ignore_errors=True)


class Reaper:
    """The driver's end of the pipe."""

    def __init__(self, *, token: str, temporary: Path) -> None:
        environment = {name: value for name, value in os.environ.items() if name != TOKEN_VARIABLE}
        root = str(Path(__file__).resolve().parent.parent)
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [root, environment.get("PYTHONPATH")]))
        self._process: subprocess.Popen[str] = subprocess.Popen(
            [sys.executable, "-m", "cluster.reaper"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            env=environment,
            start_new_session=True,
            text=True,
        )
        self._say(json.dumps({"token": token, "temporary": str(temporary)}))

    def dismiss(self, *, timeout_s: float = 20.0) -> None:
        """Says goodbye and waits until the leftovers are gone."""
        self._say(GOODBYE)
        assert self._process.stdin is not None
        self._process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):  # it goes on by itself
            self._process.wait(timeout_s)

    def _say(self, line: str) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # somebody ended the reaper; the run can do without


def watch(pipe: IO[str]) -> None:
    """Waits for the end of the pipe, then ends the run it was told about."""
    first = pipe.readline()
    if not first:
        return  # the driver died before it had started anything
    told = json.loads(first)
    for _ in pipe:
        pass
    sweep(told["token"])
    remove_temporary(Path(told["temporary"]))


if __name__ == "__main__":
    watch(sys.stdin)
