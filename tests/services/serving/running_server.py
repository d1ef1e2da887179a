"""`onlinevpo serve` as a process of its own."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil

from cluster.reaper import TOKEN_VARIABLE
from services.client import Client

START_S = 180.0
ROOT = Path(__file__).parents[3]


class RunningServer:
    """Started on a data folder, and again and again on the same port."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.folder, self._arguments = folder, arguments
        self.key, self.port = "", 0
        self.ready: dict[str, Any] = {}
        self.stdout = self.stderr = Path()
        self._starts = 0

    def start(self) -> dict[str, Any]:
        """Returns what the ready line says."""
        self._starts += 1
        self.stdout, self.stderr = (self.folder / f"{name}.{self._starts}" for name in ("stdout", "stderr"))
        with self.stdout.open("wb") as out, self.stderr.open("wb") as err:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "services.cli", "serve", "--json", "--data-dir", str(self.folder / "data"),
                 "--port", str(self.port), *self._arguments],
                stdout=out, stderr=err, cwd=self.folder, start_new_session=True,
                env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
            )  # fmt: skip
        deadline = time.monotonic() + START_S
        while not (text := self.stdout.read_text()).endswith("\n"):
            assert self.process.poll() is None and time.monotonic() < deadline, self.stderr.read_text()
            time.sleep(0.05)
        self.ready = json.loads(text)
        self.port = int(self.ready["url"].rpartition(":")[2])
        self.key = self.ready.get("key", self.key)
        return self.ready

    def client(self, **more: Any) -> Client:
        return Client(self.ready["url"], api_key=self.key, **more)

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Its exit code."""
        if self.process.poll() is None:
            self.send(number)
        return self.process.wait(90)

    def family(self) -> list[psutil.Process]:
        """It and all that it has started, also what is no longer its child: Ray's processes carry a token."""
        me = psutil.Process(self.process.pid)
        tokens = set()
        found = [me, *me.children(recursive=True)]
        for process in found:
            with contextlib.suppress(psutil.Error):
                tokens.add(process.environ().get(TOKEN_VARIABLE))
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.environ().get(TOKEN_VARIABLE) in tokens - {None}:
                    found.append(process)
        return found

    def close(self) -> None:
        """Ends whatever is left, by pid."""
        if self.process.poll() is None:
            family = self.family()
            self.process.kill()
            self.process.wait(30)
            for process in family:
                with contextlib.suppress(psutil.Error):
                    process.kill()
