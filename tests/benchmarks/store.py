"""What remembering costs: jobs accepted per second, and requests under an idempotency key, on SQLite and on Redis.

    python -m tests.benchmarks.store [--clients 64] [--seconds 2] [--rounds 3]

The backends take turns, so that a machine whose speed drifts drifts for all of them. `redis` is a Valkey server of this
program's own on a unix socket; it syncs its file every second (the SQLite store: with every commit), `redis_always`
with every write. Prints one JSON object: medians over the rounds, in operations per second of all clients together, and
the latency of a lone client.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from cluster.store.idempotency import Answer, Fresh
from cluster.store.open import open_store
from cluster.store.store import Store
from tests.cluster.store.server import Server

REQUEST = json.dumps({"items": [{"prompt": "a red square moves left", "video": "f" * 64}] * 8}).encode()
LONE_CALLS = 50


async def create_job(store: Store, name: str) -> None:
    await store.jobs.create(owner="bench", request=REQUEST)


async def answer_once(store: Store, name: str) -> None:
    """begin and finish: what a POST with an Idempotency-Key adds."""
    begun = await store.idempotency.begin("bench", name, "0" * 64, lease_s=60.0)
    assert isinstance(begun, Fresh)
    await store.idempotency.finish(begun.ticket, Answer(status=200, body=REQUEST))


async def per_second(
    store: Store, call: Callable[[Store, str], Awaitable[None]], clients: int, seconds: float
) -> float:
    start, done = time.perf_counter(), 0

    async def client(number: int) -> None:
        nonlocal done
        while time.perf_counter() - start < seconds:
            await call(store, f"{number}-{done}-{time.perf_counter_ns()}")
            done += 1

    await asyncio.gather(*map(client, range(clients)))
    return done / (time.perf_counter() - start)


async def lone_ms(store: Store) -> float:
    took = []
    for _ in range(LONE_CALLS):
        start = time.perf_counter()
        await create_job(store, "")
        took.append(1000 * (time.perf_counter() - start))
    return statistics.median(took)


async def measure(places: dict[str, str], clients: int, seconds: float, rounds: int) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, list[float]]] = {name: {} for name in places}
    for _ in range(rounds):
        for name, address in places.items():
            store = await open_store(address, deadline_s=30.0)
            figures = {
                "jobs_per_s": await per_second(store, create_job, clients, seconds),
                "idempotent_requests_per_s": await per_second(store, answer_once, clients, seconds),
                "lone_job_p50_ms": await lone_ms(store),
            }
            await store.close()
            for key, value in figures.items():
                found[name].setdefault(key, []).append(value)
    return {name: {key: round(statistics.median(v), 2) for key, v in each.items()} for name, each in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--dir", type=Path, default=None, help="where the stores lie; by default a temporary folder")
    given = parser.parse_args()
    every_second = Server("--appendonly", "yes", "--appendfsync", "everysec")
    always = Server("--appendonly", "yes", "--appendfsync", "always")
    try:
        with tempfile.TemporaryDirectory(dir=given.dir) as folder:
            places = {"sqlite": str(Path(folder) / "s"), "redis": every_second.url, "redis_always": always.url}
            figures = asyncio.run(measure(places, given.clients, given.seconds, given.rounds))
    finally:
        every_second.close()
        always.close()
    machine = {"cpus": os.cpu_count(), "load": os.getloadavg()[0], "python": platform.python_version()}
    print(json.dumps({**figures, "clients": given.clients, "rounds": given.rounds, "machine": machine}, indent=2))


if __name__ == "__main__":
    main()
