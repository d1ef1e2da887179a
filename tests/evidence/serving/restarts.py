"""SIGKILL of the server while jobs come and run: nothing stays behind, nothing acknowledged is lost or done twice."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import time
from collections import Counter
from typing import Any

import httpx2
import psutil

from tests.evidence.serving.mutated import whole
from tests.evidence.serving.target import Target, item
from tests.services.serving.running_server import RunningServer

_GONE_S = 10.0


def _body(number: int, items: int) -> dict[str, Any]:
    return {"items": [item(whole((number + 7 * index) % 50)) for index in range(items)]}


def run(server: RunningServer, *, jobs: int, items: int) -> dict[str, Any]:
    """`server` runs, and runs again afterwards."""
    acknowledged, answered, left = asyncio.run(_load_and_kill(server, jobs, items))
    begun = time.monotonic()
    server.start()
    up_s = time.monotonic() - begun
    return {
        "jobs_sent": jobs, "acknowledged": len(acknowledged), "answered_at_once": len(answered),
        **left, "up_again_s": round(up_s, 1),
        **asyncio.run(_afterwards(server, acknowledged, answered, left, jobs, items)),
    }  # fmt: skip


async def _load_and_kill(
    server: RunningServer, jobs: int, items: int
) -> tuple[dict[int, str], dict[int, bytes], dict[str, Any]]:
    """Jobs and answers that the server acknowledged, by number, and what was left of it; it is killed half-way."""
    target, acknowledged, answered = Target.of(server), dict[int, str](), dict[int, bytes]()
    family, ports = server.family(), _listening(server.family())
    async with target.callers(8) as client:
        jobs_before = await _listed(client)

        async def send(number: int) -> None:
            with contextlib.suppress(httpx2.TransportError):
                response = await _as_job(client, number, items)
                if response.status_code == 202:
                    acknowledged[number] = response.json()["id"]

        async def ask(number: int) -> None:
            with contextlib.suppress(httpx2.TransportError):
                response = await _at_once(client, number)
                if response.status_code == 200:
                    answered[number] = response.content

        async def kill() -> None:
            while len(acknowledged) < jobs // 2 or not answered:
                await asyncio.sleep(0.005)
            server.send(signal.SIGKILL)

        turns = asyncio.Semaphore(4)

        async def in_turn(number: int) -> None:
            async with turns:
                await send(number)
                await ask(number)

        await asyncio.gather(kill(), *(in_turn(number) for number in range(jobs)))
    server.process.wait()
    begun = time.monotonic()
    while time.monotonic() - begun < _GONE_S and (_alive(family) or _open(ports)):
        await asyncio.sleep(0.1)
    left = {
        "jobs_before": jobs_before,
        "processes": len(family), "ports": len(ports), "all_gone_s": round(time.monotonic() - begun, 1),
        "processes_left": len(_alive(family)), "ports_left": len(_open(ports)),
    }  # fmt: skip
    return acknowledged, answered, left


async def _afterwards(
    server: RunningServer,
    acknowledged: dict[int, str],
    answered: dict[int, bytes],
    left: dict[str, Any],
    jobs: int,
    items: int,
) -> dict[str, Any]:
    target, begun = Target.of(server), time.monotonic()
    async with target.callers(8) as client:
        ids = {number: (await _as_job(client, number, items)).json()["id"] for number in range(jobs)}
        same_ids = sum(ids[number] == known for number, known in acknowledged.items())
        replays = [await _at_once(client, number) for number in answered]
        same = sum(one.content == known for one, known in zip(replays, answered.values(), strict=True))
        turns = asyncio.Semaphore(8)

        async def end(job_id: str) -> dict[str, Any]:
            async with turns:
                while True:
                    job: dict[str, Any] = (await client.get(f"/v1/jobs/{job_id}", params={"wait": 20})).json()
                    if job["state"] not in ("queued", "running"):
                        return job

        ended = await asyncio.gather(*map(end, ids.values()))
        took = time.monotonic() - begun
        ends = [await _ends(client, job_id) for job_id in ids.values()]
        results = [(await client.get(f"/v1/jobs/{job_id}/result")).json() for job_id in ids.values()]
        listed = await _listed(client)
    return {
        "same_job_for_the_same_key": same_ids, "same_answer_for_the_same_key": same,
        "states": dict(Counter(job["state"] for job in ended)), "ended_once": sum(each == 1 for each in ends),
        "whole_results": sum(
            [entry["index"] for entry in result["data"]] == list(range(items))
            and all("scores" in entry for entry in result["data"])
            for result in results
        ),
        "jobs_more": listed - left["jobs_before"], "all_ended_s": round(took, 1),
    }  # fmt: skip


async def _listed(client: httpx2.AsyncClient) -> int:
    count, more = 0, {"limit": "50"}
    while True:
        page = (await client.get("/v1/jobs", params=more)).json()
        count += len(page["data"])
        if not page["has_more"]:
            return count
        more["cursor"] = page["next_cursor"]


async def _as_job(client: httpx2.AsyncClient, number: int, items: int) -> httpx2.Response:
    headers = {"Prefer": "respond-async", "Idempotency-Key": f"job-{number}"}
    return await _until_it_may(client, _body(number, items), headers)


async def _at_once(client: httpx2.AsyncClient, number: int) -> httpx2.Response:
    return await _until_it_may(client, _body(number, 2), {"Idempotency-Key": f"now-{number}"})


async def _until_it_may(client: httpx2.AsyncClient, body: dict[str, Any], headers: dict[str, str]) -> httpx2.Response:
    """What the dead server was at has to wait until its lease is over."""
    while (response := await client.post("/v1/score", json=body, headers=headers)).status_code in (409, 503):
        await asyncio.sleep(float(response.headers["retry-after"]))
    return response


async def _ends(client: httpx2.AsyncClient, job_id: str) -> int:
    """How often the job has ended, by its events."""
    text = (await client.get(f"/v1/jobs/{job_id}/events")).text
    events = [json.loads(line.removeprefix("data:")) for line in text.splitlines() if line.startswith("data:")]
    return sum(event.get("state") == "succeeded" for event in events)


def _listening(family: list[psutil.Process]) -> set[int]:
    ports = set()
    for process in family:
        with contextlib.suppress(psutil.Error):
            ports |= {
                each.laddr.port for each in process.net_connections("inet") if each.laddr and each.status == "LISTEN"
            }
    return ports


def _alive(family: list[psutil.Process]) -> list[psutil.Process]:
    found = []
    for process in family:
        with contextlib.suppress(psutil.Error):
            if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def _open(ports: set[int]) -> set[int]:
    return {
        each.laddr.port for each in psutil.net_connections("inet") if each.laddr and each.status == "LISTEN"
    } & ports
