"""The servers that the scoring benchmark loads, each a process of its own that ends with it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import sys
import tempfile
import urllib.request
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from tests.benchmarks.scoring_costs import PIDS
from tests.benchmarks.scoring_load import Connection, Request, post
from tests.services.media.clips import clip

CLIPS = 64
START_S, END_S = 300.0, 120.0
PROMPT = "a red circle moving left slowly"
_REWARD = re.compile(rb'"reward":[-0-9.e]+')


class Service:
    """`onlinevpo serve`, with small clips uploaded to it."""

    def __init__(self, facts: Mapping[str, Any], folder: Path) -> None:
        parts = urlsplit(facts["url"])
        assert parts.hostname and parts.port
        self.address = parts.hostname, parts.port
        self._url, self._folder = facts["url"], folder
        self._headers = {"Authorization": f"Bearer {facts['key']}"}
        self._requests: dict[str, list[Request]] = {}

    @classmethod
    @contextlib.asynccontextmanager
    async def up(cls, models: Mapping[str, Mapping[str, Any]], log: Path | None) -> AsyncIterator[Service]:
        """Models by name, each with what differs from the defaults of its section."""
        with tempfile.TemporaryDirectory(prefix="scoring-", dir="/tmp") as name:
            folder = Path(name)
            (folder / "pids").mkdir()
            config = {
                "port": 0,
                "data_dir": str(folder / "data"),
                "models": {key: dict(v) for key, v in models.items()},
            }
            (folder / "serve.yaml").write_text(yaml.safe_dump(config))
            command = ("tests.benchmarks.scoring_served", str(folder / "serve.yaml"), "--json")
            async with _process(*command, log=log, environment={PIDS: str(folder / "pids")}) as (process, facts):
                service = cls(facts, folder)
                await service._prepare(models)
                yield service
                process.send_signal(signal.SIGTERM)
                await asyncio.wait_for(process.wait(), END_S)

    def requests(self, model: str) -> list[Request]:
        """One per clip."""
        return self._requests[model]

    async def counted(self) -> int:
        """Items that the service says it has scored."""
        text = (await self._call("GET", "/metrics")).decode()
        lines = [line for line in text.splitlines() if line.startswith("onlinevpo_items_total{") and "scored" in line]
        return sum(int(float(line.rpartition(" ")[2])) for line in lines)

    async def restart(self, model: str) -> None:
        """Returns when every replica has been replaced."""
        await self._call("POST", f"/v1/models/{model}/restart", b"{}", "application/json")
        while json.loads(await self._call("GET", f"/v1/models/{model}"))["restarting"]:
            await asyncio.sleep(0.1)

    def replicas(self, model: str) -> list[int]:
        """Process ids of the replicas that were ever started, the first one first."""
        files = sorted((self._folder / "pids").glob(f"{model}-*"), key=lambda file: file.stat().st_mtime_ns)
        return [int(file.name.rpartition("-")[2]) for file in files]

    async def kill_replica(self, model: str) -> None:
        """SIGKILL of the replica that was started last."""
        os.kill(self.replicas(model)[-1], signal.SIGKILL)

    async def _prepare(self, models: Mapping[str, Any]) -> None:
        ids = [
            json.loads(await self._call("POST", "/v1/files", clip(height=32, width=32, seed=7 * n), "video/mp4"))["id"]
            for n in range(CLIPS)
        ]
        for model in models:
            self._requests[model] = [await self._request(model, file_id) for file_id in ids]

    async def _request(self, model: str, file_id: str) -> Request:
        """The first answer, given to a lone request, is what all later ones must be."""
        items = [{"prompt": PROMPT, "video": {"file_id": file_id}}]
        body = json.dumps({"model": model, "items": items}).encode()
        host, port = self.address
        wire = post("/v1/score", body, host=f"{host}:{port}", headers=self._headers)
        connection = await Connection.to(host, port)
        status, answer = await connection.ask(wire)
        connection.close()
        found = _REWARD.search(answer)
        if status != 200 or found is None:
            raise RuntimeError(f"the service answered {status}: {answer.decode(errors='replace')}")
        return Request(wire, found.group())

    async def _call(self, method: str, path: str, body: bytes | None = None, kind: str | None = None) -> bytes:
        headers = self._headers | ({"Content-Type": kind} if kind else {})
        request = urllib.request.Request(self._url + path, data=body, headers=headers, method=method)
        return await asyncio.to_thread(lambda: urllib.request.urlopen(request, timeout=START_S).read())


class Anchor:
    """What Ray Serve does by itself (tests/benchmarks/scoring_anchors.py)."""

    def __init__(self, port: int) -> None:
        self.address = "127.0.0.1", port

    @classmethod
    @contextlib.asynccontextmanager
    async def up(cls, name: str, log: Path | None) -> AsyncIterator[Anchor]:
        async with _process("tests.benchmarks.scoring_anchors", name, log=log) as (process, facts):
            yield cls(facts["port"])
            assert process.stdin is not None
            process.stdin.close()
            await asyncio.wait_for(process.wait(), END_S)

    def requests(self, model: str) -> list[Request]:
        """As those to the service."""
        body = json.dumps({"model": model, "items": [{"prompt": PROMPT, "video": {"file_id": "a" * 64}}]}).encode()
        host, port = self.address
        headers = {"Authorization": f"Bearer {'a' * 48}"}
        return [Request(post("/score", body, host=f"{host}:{port}", headers=headers), b'"reward":0.5')]


@contextlib.asynccontextmanager
async def _process(
    *command: str, log: Path | None, environment: Mapping[str, str] | None = None
) -> AsyncIterator[tuple[Process, dict[str, Any]]]:
    """A Python module that says that it is up with a line of JSON; whatever happens, its process group ends."""
    with open(log or os.devnull, "ab") as errors:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", *command, stdin=PIPE, stdout=PIPE, stderr=errors, start_new_session=True,
            env={**os.environ, "PYTHONPATH": os.getcwd(), **(environment or {})},
        )  # fmt: skip
        try:
            assert process.stdout is not None
            line = await asyncio.wait_for(process.stdout.readline(), START_S)
            if not line:
                raise RuntimeError(f"{command[0]} did not start; see its standard error with --log")
            yield process, json.loads(line)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
