"""All parts, against servers that are started for them."""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tests.evidence.serving import bad_items, bombs, connections, foreign, mutated, redis_away, restarts, secrets_kept
from tests.evidence.serving.target import Target
from tests.services.serving.running_server import RunningServer

CLIPS, VALID, JOBS = 10_000, 200, 50

Part = Callable[[RunningServer], Any]
ON_ONE_SERVER: dict[str, Part] = {
    "mutated": lambda server: asyncio.run(mutated.run(Target.of(server), mutated=CLIPS, valid=VALID)),
    "bombs": lambda server: asyncio.run(bombs.run(Target.of(server), rounds=10)),
    "bad_items": lambda server: asyncio.run(bad_items.run(Target.of(server))),
    "foreign": lambda server: asyncio.run(foreign.run(Target.of(server))),
    "connections": lambda server: asyncio.run(connections.run(Target.of(server))),
    "secrets": lambda server: asyncio.run(secrets_kept.run(server)),
    "restarts": lambda server: restarts.run(server, jobs=JOBS, items=64),
}
LARGER_FRAMES = "bombs_within_frame_limit"
RUN = ON_ONE_SERVER | {
    LARGER_FRAMES: lambda server: asyncio.run(bombs.run(Target.of(server), rounds=10, with_short=False))
}
REDIS = "redis"
PARTS = (*RUN, REDIS)


def measure(parts: Sequence[str] = PARTS) -> dict[str, Any]:
    """What each part found, by its name."""
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if shared := [part for part in ON_ONE_SERVER if part in parts]:
            found |= _on_server(folder / "one", shared)
        if LARGER_FRAMES in parts:
            found |= _on_server(folder / "larger", [LARGER_FRAMES], "--set", "media.max_frame_pixels=16777216")
        if REDIS in parts:
            (folder / "redis").mkdir()
            found[REDIS] = redis_away.run(folder / "redis", away_s=10)
    return found


def _on_server(folder: Path, parts: Sequence[str], *arguments: str) -> dict[str, Any]:
    folder.mkdir()
    server, found = RunningServer(folder, *arguments), {}
    try:
        server.start()
        for part in parts:
            begun = time.monotonic()
            found[part] = RUN[part](server)
            print(f"{part}: {time.monotonic() - begun:.0f} s", file=sys.stderr, flush=True)
    finally:
        server.end()
        server.close()
    return found


def section(found: dict[str, Any]) -> str:
    """As Markdown: one line for each part, then all of it."""
    lines = ["| part | found |", "|---|---|", *(f"| {name} | {_SAID[name](found[name])} |" for name in found)]
    whole = "\n".join(f'  "{name}": {json.dumps(value)}' for name, value in found.items())
    return "\n".join([*lines, "", "```json", "{", whole.replace("\n", ",\n"), "}", "```"])


def _bombs(rows: list[dict[str, Any]]) -> str:
    return (
        f"{len(rows)} forms, every one refused; slowest {max(row['ms_max'] for row in rows):.0f} ms, "
        f"most growth {max(row['growth_mib_max'] for row in rows):.1f} MiB"
    )


def _restarts(row: dict[str, Any]) -> str:
    return (
        f"{row['processes']} processes and {row['ports']} ports gone after {row['all_gone_s']} s; "
        f"{row['acknowledged']} jobs acknowledged before the kill, {row['same_job_for_the_same_key']} the same "
        f"afterwards, {row['ended_once']} of {row['jobs_sent']} ended once"
    )


_SAID: dict[str, Callable[[Any], str]] = {
    "mutated": lambda row: (
        f"{row['mutated']} mutated clips: {row['failures_of_the_service']} failures of the service, "
        f"{row['unanswered']} unanswered; valid clips: {row['valid']}"
    ),
    "bombs": _bombs,
    LARGER_FRAMES: _bombs,
    "bad_items": lambda rows: "; ".join(
        f"{row['asked']}: {row['scored']} scored, {row['problems']} problems" for row in rows
    ),
    "foreign": lambda row: f"{row['payloads']} payloads: {len(row['taken'])} taken, {len(row['leaks'])} leaks",
    "connections": lambda rows: (
        f"{len(rows)} attacks: {sum(row['others_failed'] for row in rows)} of {sum(row['others'] for row in rows)} "
        f"requests of others failed; p99 {max(row['p99_ms'] for row in rows):.0f} ms at worst"
    ),
    "secrets": lambda row: (
        f"{row['answers']} answers, {row['files_searched']} files: {len(row['leaks'])} leaks, "
        f"the key in {len(row['files_with_the_key'])} files, a prompt in {len(row['logs_with_a_prompt'])} logs"
    ),
    "restarts": _restarts,
    REDIS: lambda row: (
        f"away: slowest answer {row['slowest_answer_s']} s; back: {row['recovered_s']} s; "
        f"its job {row['job_of_before']}; open Redis refused with exit {row['open_redis']['exit']}"
    ),
}  # fmt: skip
