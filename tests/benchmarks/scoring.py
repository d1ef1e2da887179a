"""What the scoring service costs and survives, against what Ray Serve does by itself, in one run.

    python -m tests.benchmarks.scoring [--json] [--only noop latency batching kill restarts] [--rounds 5]

Everything goes over HTTP on the loopback to `onlinevpo serve` as it is, with API keys, request ids and metrics, and to
anchors beside it that take turns with it. Videos are uploaded before and named by their ids. The models' cost is known
(tests/benchmarks/scoring_costs.py). Prints one JSON object:

    batching_efficiency     items/s of 64 clients with a model whose batches of n take a + b n seconds, over what full
                            batches without a gap would give
    batching_gain           the same items/s over one item at a time: 1 / (a + b)
    serve_batch_gain        that gain with @serve.batch, for the same clients and costs
    noop_over_default_serve requests/s of 32 clients with a model that does nothing, over a FastAPI ingress on Ray Serve
                            that answers at once: the median over rounds of their ratio
    added_latency_p50_ms    of one client's requests, beyond what the model itself takes
    replica_kill_failed     of 2,000 requests, 100 due each second, while one of two replicas is killed
    replica_kill_p99_s      of those, from when they were due
    rolling_restart_failed  of the requests under the same load during ten rolling restarts
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil
import uvloop

from tests.benchmarks.scoring_costs import BATCH_ITEMS, COSTS_S
from tests.benchmarks.scoring_load import Load, closed_loop, open_loop
from tests.benchmarks.scoring_service import Anchor, Service

A_S, B_S = COSTS_S["fixed"]
IDEAL_PER_S = BATCH_ITEMS / (A_S + B_S * BATCH_ITEMS)
SERIAL_PER_S = 1 / (A_S + B_S)
RESTARTS = 10

Figures = dict[str, Any]


async def noop(given: argparse.Namespace) -> Figures:
    """Requests per second, in turns with the default ingress."""
    ours, theirs = [], []
    async with Service.up({"noop": {}}, given.log) as service, Anchor.up("noop", given.log) as anchor:
        for number in range(given.rounds + 1):
            for found, target in ((ours, service), (theirs, anchor)):
                load = await closed_loop(target.address, target.requests("noop"), clients=32, seconds=given.seconds)
                if number:  # the first warms up
                    found.append(load.summary())
        counted = await service.counted()
    ratios = [mine["per_s"] / other["per_s"] for mine, other in zip(ours, theirs, strict=True)]
    return {
        "noop_over_default_serve": round(statistics.median(ratios), 2),
        "raw": {"ratios": ratios, "service": ours, "default_serve": theirs, "items_counted_by_metrics": counted},
    }


async def latency(given: argparse.Namespace) -> Figures:
    """One client: everything but the model."""
    rounds, anchors = [], []
    async with Service.up({"noop": {}}, given.log) as service, Anchor.up("noop", given.log) as anchor:
        for number in range(given.rounds + 1):
            for found, target in ((rounds, service), (anchors, anchor)):
                load = await closed_loop(target.address, target.requests("noop"), clients=1, seconds=given.seconds / 2)
                if number:
                    found.append(load.summary())
    return {
        "added_latency_p50_ms": round(statistics.median(one["p50_ms"] for one in rounds), 3),
        "raw": {"service": rounds, "default_serve": anchors},
    }


async def batching(given: argparse.Namespace) -> Figures:
    """64 clients and a model whose batches cost little more than its items, in turns with @serve.batch."""
    ours, theirs = [], []
    async with (
        Service.up({"fixed": {"batch_items": BATCH_ITEMS}}, given.log) as service,
        Anchor.up("batch", given.log) as anchor,
    ):
        for number in range(given.rounds + 1):
            for found, target in ((ours, service), (theirs, anchor)):
                load = await closed_loop(target.address, target.requests("fixed"), clients=64, seconds=given.seconds)
                if number:
                    found.append(load.summary())
    mine, other = (statistics.median(one["per_s"] for one in each) for each in (ours, theirs))
    return {
        "batching_efficiency": round(mine / IDEAL_PER_S, 3),
        "batching_gain": round(mine / SERIAL_PER_S, 2),
        "serve_batch_gain": round(other / SERIAL_PER_S, 2),
        "raw": {
            "service": ours,
            "serve_batch": theirs,
            "ideal_per_s": round(IDEAL_PER_S, 1),
            "serial_per_s": round(SERIAL_PER_S, 1),
        },
    }


async def kill(given: argparse.Namespace) -> Figures:
    """SIGKILL of one of two replicas under load."""
    async with Service.up({"pair": {"replicas": 2}}, given.log) as service:
        await _warm_up(service)
        count = given.requests
        load = await open_loop(
            service.address, service.requests("pair"), per_s=100, count=count,
            events={count // 3: lambda: service.kill_replica("pair")},
        )  # fmt: skip
        started = len(service.replicas("pair"))
    return {
        "replica_kill_failed": load.failures.total(),
        "replica_kill_p99_s": round(load.quantile_s(0.99), 4),
        "raw": load.summary()
        | {"offered_per_s": 100, "killed_before_request": count // 3, "replicas_started": started},
    }


async def restarts(given: argparse.Namespace) -> Figures:
    """Ten rolling restarts under load, one after the other."""
    took: list[float] = []
    async with Service.up({"pair": {"replicas": 2}}, given.log) as service:
        await _warm_up(service)
        working = asyncio.create_task(_restart(service, took))
        load = Load()
        while not working.done():
            part = await open_loop(
                service.address, service.requests("pair"), per_s=100, count=200
            )  # fmt: skip
            load.latencies_s += part.latencies_s
            load.failures += part.failures
            load.seconds += part.seconds
        await working
        started = len(service.replicas("pair"))
    return {
        "rolling_restart_failed": load.failures.total(),
        "raw": load.summary() | {"restarts": len(took), "seconds_each": took, "replicas_started": started},
    }


async def _restart(service: Service, took: list[float]) -> None:
    for _ in range(RESTARTS):
        begun = time.perf_counter()
        await service.restart("pair")
        took.append(round(time.perf_counter() - begun, 2))


async def _warm_up(service: Service) -> None:
    await closed_loop(service.address, service.requests("pair"), clients=4, seconds=2)


SECTIONS: dict[str, Callable[[argparse.Namespace], Awaitable[Figures]]] = {
    "batching": batching,
    "noop": noop,
    "latency": latency,
    "kill": kill,
    "restarts": restarts,
}


async def measure(given: argparse.Namespace) -> Figures:
    figures: Figures = {}
    raw: Figures = {}
    for name in given.only or SECTIONS:
        before = os.getloadavg()[0]
        found = await SECTIONS[name](given)
        raw[name] = found.pop("raw") | {"load_before": round(before, 2), "load_after": round(os.getloadavg()[0], 2)}
        figures |= found
        print(f"{name}: {json.dumps(found)}", file=sys.stderr)
    return {**figures, "raw": raw, "rounds": given.rounds, "seconds": given.seconds, "machine": machine()}


def machine() -> Figures:
    """Where it was measured, and with what."""
    names = ("ray", "fastapi", "uvicorn", "uvloop", "pydantic", "torch", "numpy", "av")
    return {
        "processor": _processor(),
        "cpus": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "load": round(os.getloadavg()[0], 2),
        "versions": {"python": platform.python_version(), **{name: version(name) for name in names}},
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=SECTIONS, help="these sections")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each, beside the one that warms up")
    parser.add_argument("--seconds", type=float, default=4.0, help="of a turn")
    parser.add_argument("--requests", type=int, default=2000, help="of the open loop while a replica is killed")
    parser.add_argument("--log", type=Path, default=None, help="where the servers' standard error goes")
    parser.add_argument("--json", action="store_true", help="on one line")
    given = parser.parse_args()
    figures = uvloop.run(measure(given))
    print(json.dumps(figures, indent=None if given.json else 2))


if __name__ == "__main__":
    main()
