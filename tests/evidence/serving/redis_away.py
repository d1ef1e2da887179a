"""The same service with its store in Redis: while that is away, it says so and for how long, and recovers by itself."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx2

from tests.cluster.store.server import Server
from tests.evidence.serving import bad_items
from tests.evidence.serving.mutated import whole
from tests.evidence.serving.target import Target, item
from tests.services.serving.running_server import ROOT, RunningServer


def run(folder: Path, *, away_s: float) -> dict[str, Any]:
    """Everything from the start of both servers to their end."""
    redis = Server("--appendonly", "yes", "--appendfsync", "always")
    server = RunningServer(folder, "--store", redis.url)
    try:
        server.start()
        target = Target.of(server)
        found = {"bad_items": asyncio.run(bad_items.run(target)), **asyncio.run(_away(target, redis, away_s))}
        return {**found, "exit": server.end(signal.SIGTERM), "leaks": target.leaks, "open_redis": refused(folder)}
    finally:
        server.close()
        redis.close()


async def _away(target: Target, redis: Server, away_s: float) -> dict[str, Any]:
    async with target.callers(4) as client:
        uploaded = await client.post("/v1/files", content=whole(1), headers={"Content-Type": "video/mp4"})
        body = {"items": [item(uploaded.json()["id"])]}
        job = await client.post("/v1/score", json=_long(), headers={"Prefer": "respond-async"})
        redis.kill()
        while_away, slowest = await _while_away(client, target, body, away_s)
        redis.restart()
        begun = time.monotonic()
        while (response := await client.post("/v1/score", json=body)).status_code != 200:
            target.look_at(response.status_code, response.text)
            await asyncio.sleep(0.05)
        recovered_s = time.monotonic() - begun
        ended = await client.get(job.headers["location"], params={"wait": 60})
        ready = await client.get("/readyz")
    return {
        "while_away": dict(while_away), "slowest_answer_s": round(slowest, 2), "recovered_s": round(recovered_s, 2),
        "job_of_before": ended.json()["state"], "ready_afterwards": ready.status_code,
    }  # fmt: skip


async def _while_away(
    client: httpx2.AsyncClient, target: Target, body: dict[str, Any], away_s: float
) -> tuple[Counter[str], float]:
    """Answers by path, status, code, and whether they say that it is worth trying again; the slowest of them."""
    found: Counter[str] = Counter()
    until, slowest = time.monotonic() + away_s, 0.0
    while time.monotonic() < until:
        for path, value in (("/v1/score", body), ("/livez", None), ("/readyz", None), ("/v1/jobs", None)):
            begun = time.monotonic()
            response = await (client.post(path, json=value) if value else client.get(path))
            slowest = max(slowest, time.monotonic() - begun)
            target.look_at(response.status_code, response.text)
            problem = response.json() if "problem" in response.headers["content-type"] else {}
            again = "retryable" if problem.get("retryable") and "retry-after" in response.headers else ""
            found[" ".join(filter(None, (path, str(response.status_code), problem.get("code", ""), again)))] += 1
        await asyncio.sleep(0.1)
    return found, slowest


def _long() -> dict[str, Any]:
    return {"items": [item(whole(index % 50)) for index in range(600)]}


def refused(folder: Path) -> dict[str, Any]:
    """What `onlinevpo serve` says to a Redis without a password that is not on this machine."""
    done = subprocess.run(
        [sys.executable, "-m", "services.cli", "serve", "--port", "0", "--data-dir", str(folder / "other"),
         "--store", "redis://192.0.2.7:6379/0"],
        cwd=folder, capture_output=True, text=True, timeout=120, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    return {"exit": done.returncode, "says": done.stderr.strip().splitlines()[-1]}
