"""What remembering a run costs: points stored per second, curves read, and what all logging takes of a run's time.

    python -m tests.benchmarks.ingest [--runs 20] [--updates 100000] [--seconds 2] [--rounds 3] [--dir FOLDER]

Three parts, printed as one JSON object with medians over the rounds, in which the backends take turns:

- `points_per_s`: so many runs tell of one update of 50 points at a time, each as soon as its last is acknowledged;
  `points_per_cpu_s` is the same over this program's processor time, which a busy machine does not change. SQLite syncs
  its file with every commit; `redis` is a Valkey server of this program's own that syncs every second, `redis_always`
  one that syncs with every write.
- `first_curves_ms`: one curve of every run, of so many points each, thinned to 1,000.
- `logging`: a run of the demo's size in one process with its log, in processor time per update: what the run does
  itself (`run_ms`: a line of metrics.jsonl, and the observer's call), what is done beside it (`beside_ms`: reading the
  pairs' files, the store), all of it (`update_ms`). `share` is the first two over the last.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import sqlite3
import statistics
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import redis

from cluster.observer import RunEnd
from cluster.run_directory import RunDirectory
from cluster.run_log import RunLog
from cluster.store.open import open_store
from cluster.store.run_items import Line, Told
from cluster.store.runs import Origin
from cluster.store.store import Store
from tests.cluster.store.server import Server

NAMES = [f"curve.{number:02d}" for number in range(50)]
AT_ONCE = 2000  # lines in one write while a store is filled
MAX_POINTS = 1000
SETTLED = 5  # updates after which everything is imported and open


async def begin(store: Store, number: int, kind: str) -> tuple[str, str]:
    run_id = f"{kind}-{number}-{time.time_ns()}"
    await store.runs.begin(Origin(run_id=run_id, owner="bench"), token=run_id, first_update=0)
    return run_id, run_id


async def points_per_s(store: Store, runs: int, seconds: float) -> tuple[float, float]:
    """(per second, per second of processor time)."""
    start, start_cpu, told = time.perf_counter(), time.process_time(), 0

    async def tell(number: int) -> None:
        nonlocal told
        run_id, token = await begin(store, number, "ingest")
        update = 0
        while time.perf_counter() - start < seconds:
            line = Line(update=update, points=dict.fromkeys(NAMES, update + 0.5))
            await store.runs.tell(run_id, token, [Told(update + 1, line)])
            told, update = told + len(NAMES), update + 1

    await asyncio.gather(*map(tell, range(runs)))
    return told / (time.perf_counter() - start), told / (time.process_time() - start_cpu)


async def fill(store: Store, runs: int, updates: int) -> list[str]:
    ids = []
    for number in range(runs):
        run_id, token = await begin(store, number, "curves")
        ids.append(run_id)
        for first in range(0, updates, AT_ONCE):
            steps = range(first, min(first + AT_ONCE, updates))
            lines = [Line(update=step, points={"reward_mean": (step * 7919 % 1000) / 1000}) for step in steps]
            await store.runs.tell(run_id, token, [Told(line.update + 1, line) for line in lines])
    return ids


async def first_curves_ms(store: Store, ids: list[str]) -> float:
    start = time.perf_counter()
    found = await asyncio.gather(*(store.metrics.read(each, ["reward_mean"], max_points=MAX_POINTS) for each in ids))
    took = 1000 * (time.perf_counter() - start)
    assert all(each is not None and len(each.curves["reward_mean"].values) > MAX_POINTS / 2 for each in found)
    return took


async def measure(places: dict[str, str], given: argparse.Namespace) -> dict[str, Any]:
    rates: dict[str, list[tuple[float, float]]] = {name: [] for name in places}
    reads: dict[str, list[float]] = {"sqlite": [], "redis": []}
    stores = {name: await open_store(address, deadline_s=60.0) for name, address in places.items()}
    ids = {name: await fill(stores[name], given.runs, given.updates) for name in reads}
    for _ in range(given.rounds):
        for name, store in stores.items():
            rates[name].append(await points_per_s(store, given.runs, given.seconds))
        for name in reads:
            reads[name].append(await first_curves_ms(stores[name], ids[name]))
    for store in stores.values():
        await store.close()
    return {
        "points_per_s": {name: round(statistics.median(each for each, _ in found)) for name, found in rates.items()},
        "points_per_cpu_s": {name: round(statistics.median(e for _, e in found)) for name, found in rates.items()},
        "first_curves_ms": {name: round(statistics.median(values), 1) for name, values in reads.items()},
    }


class TimedLog(RunLog):
    """Counts processor time: of the observer's call, of the threads beside the run, of everything."""

    def __init__(self, address: str) -> None:
        super().__init__(address, say=lambda text: None)
        self.run_s = 0.0
        self.marks: list[tuple[float, float]] = []  # (everything, beside the run) after each update

    def on_update(self, line: Mapping[str, Any]) -> None:
        start = time.thread_time()
        super().on_update(line)
        self.run_s += time.thread_time() - start
        self.mark()

    def on_end(self, result: RunEnd) -> None:
        before = self.marks[-1][0]
        time.sleep(2.0)  # the sender takes what the last updates said
        self.mark()
        self.marks[-1] = (before, self.marks[-1][1])
        super().on_end(result)

    def mark(self) -> None:
        beside = [each for each in threading.enumerate() if each.name.startswith(("run log", "the store at"))]
        clocks = [time.pthread_getcpuclockid(each.ident) for each in beside if each.ident is not None]
        self.marks.append((time.process_time(), sum(map(time.clock_gettime, clocks))))


def logging_share(folder: Path, address: str, updates: int) -> dict[str, Any]:
    from cluster.controller import run  # imports torch
    from tests.cluster.crashes import tiny

    size = {"candidates_per_prompt": 4, "num_inference_steps": 6}
    config = tiny(
        folder, run_id=f"run-{time.time_ns()}", mode="in_process", updates=updates, prompts_per_update=8, sampling=size
    )
    with TimedLog(address) as log:
        result = run(config, observer=log)
    lines = list(RunDirectory(result.run_dir).read_metrics())
    scratch = RunDirectory(folder / "scratch")
    scratch.path.mkdir(exist_ok=True)
    start = time.thread_time()
    for line in lines:
        scratch.append_metrics(line)
    append_s = time.thread_time() - start
    (first, first_beside), (last, last_beside) = log.marks[SETTLED], log.marks[-1]
    counted = updates - SETTLED - 1
    update_ms = 1000 * (last - first) / counted
    run_ms, beside_ms = 1000 * (log.run_s + append_s) / updates, 1000 * (last_beside - first_beside) / counted
    figures = {"update_ms": update_ms, "run_ms": run_ms, "beside_ms": beside_ms}
    share = (run_ms + beside_ms) / update_ms
    return {**{name: round(value, 3) for name, value in figures.items()}, "share": round(share, 5)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--updates", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--logged-updates", type=int, default=40)
    parser.add_argument("--dir", type=Path, default=None, help="where the stores lie; by default a temporary folder")
    given = parser.parse_args()
    every_second = Server("--appendonly", "yes", "--appendfsync", "everysec")
    always = Server("--appendonly", "yes", "--appendfsync", "always")
    try:
        with tempfile.TemporaryDirectory(dir=given.dir) as name:
            folder = Path(name)
            places = {"sqlite": str(folder / "s"), "redis": every_second.url, "redis_always": always.url}
            found = asyncio.run(measure(places, given))
            found["logging"] = {
                kind: logging_share(folder, places[kind], given.logged_updates) for kind in ("sqlite", "redis")
            }
    finally:
        every_second.close()
        always.close()
    versions = {"python": platform.python_version(), "sqlite": sqlite3.sqlite_version, "redis_py": redis.__version__}
    machine = {"cpus": os.cpu_count(), "load": round(os.getloadavg()[0], 1), "machine": platform.machine()}
    sizes = {"runs": given.runs, "updates": given.updates, "points_per_update": len(NAMES), "rounds": given.rounds}
    print(json.dumps({**found, "sizes": sizes, "versions": versions, "machine": machine}, indent=2))


if __name__ == "__main__":
    main()
