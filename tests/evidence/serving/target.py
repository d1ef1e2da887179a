"""A server under attack: how to reach it, what it has answered so far, and what it costs."""

from __future__ import annotations

import base64
import contextlib
import re
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import httpx2
import psutil

from tests.services.serving.running_server import RunningServer

ADDRESS = re.compile(r"0x[0-9a-f]{8,}", re.IGNORECASE)
PATHS = re.compile(r"/(?:tmp|home|usr|etc|root|var|proc|work|opt|dev/shm)/|site-packages|Traceback|\.py\b")
PROMPT = "a red circle moving left slowly"


@dataclass
class Target:
    """Whoever attacks goes through here, so that every answer is looked at."""

    url: str
    key: str
    pid: int
    forbidden: list[str] = field(default_factory=list)
    """What no answer may have in it."""
    statuses: Counter[int] = field(default_factory=Counter)
    leaks: list[str] = field(default_factory=list)
    unanswered: int = 0

    @classmethod
    def of(cls, server: RunningServer) -> Self:
        return cls(url=server.ready["url"], key=server.key, pid=server.process.pid)

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    @asynccontextmanager
    async def callers(self, connections: int) -> AsyncIterator[httpx2.AsyncClient]:
        """A client with so many connections."""
        limits = httpx2.Limits(max_connections=connections, max_keepalive_connections=connections)
        headers = {"Authorization": f"Bearer {self.key}"}
        async with httpx2.AsyncClient(base_url=self.url, headers=headers, limits=limits, timeout=180) as client:
            yield client

    async def post(self, client: httpx2.AsyncClient, path: str, **request: Any) -> httpx2.Response | None:
        """The answer; None where there was none, which is counted."""
        try:
            response = await client.post(path, **request)
        except httpx2.TransportError:
            self.unanswered += 1
            return None
        self.look_at(response.status_code, response.text)
        return response

    def look_at(self, status: int, text: str) -> None:
        """Counts an answer and looks for what must not be in it."""
        self.statuses[status] += 1
        found = ADDRESS.findall(text) + PATHS.findall(text) + [word for word in self.forbidden if word in text]
        self.leaks += found[: max(0, 20 - len(self.leaks))]

    @property
    def server_errors(self) -> int:
        """Answers that say that the server failed."""
        return sum(count for status, count in self.statuses.items() if status in (500, 501, 502))

    def processes(self) -> list[psutil.Process]:
        """The server and its decoders; not those of Ray."""
        me = psutil.Process(self.pid)
        found = [me]
        for child in me.children():
            with contextlib.suppress(psutil.Error):
                if "services.media" in " ".join(child.cmdline()):
                    found.append(child)
        return found

    def cost(self) -> dict[str, float]:
        """Of the server process."""
        me = psutil.Process(self.pid)
        return {"rss_mib": round(me.memory_info().rss / 2**20, 1), "fds": me.num_fds(), "threads": me.num_threads()}


class Peak:
    """Most memory that server and decoders hold together from here on, beyond what they hold now."""

    def __init__(self, target: Target) -> None:
        self._processes = target.processes()
        self._before: list[int] = []
        for process in self._processes:
            Path(f"/proc/{process.pid}/clear_refs").write_text("5")  # the peak begins anew
            self._before.append(_field(process.pid, "VmRSS"))

    def growth_mib(self) -> float:
        peaks = (_field(process.pid, "VmHWM") for process in self._processes if process.is_running())
        return round(sum(max(0, now - was) for now, was in zip(peaks, self._before, strict=False)) / 1024, 1)


def _field(pid: int, name: str) -> int:
    """Kilobytes."""
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith(f"{name}:"))


def data_url(data: bytes, media_type: str = "video/mp4") -> str:
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


def item(video: bytes | str, prompt: str = PROMPT) -> dict[str, Any]:
    """An item of a request; a string is a file's id."""
    return {"prompt": prompt, "video": {"file_id": video} if isinstance(video, str) else {"data": data_url(video)}}


def outcomes(response: httpx2.Response) -> Sequence[str]:
    """Of each item: `scored`, or its problem's code."""
    body = response.json()
    if "data" not in body:
        return [str(body.get("code", "taken"))]
    return [entry["error"]["code"] if "error" in entry else "scored" for entry in body["data"]]
