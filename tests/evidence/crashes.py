"""Every part killed at every moment, each in a run of its own, against the unbroken run in one process."""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from cluster.controller import run
from cluster.observer import SilentObserver
from tests.cluster.crashes import MOMENTS, ROLES, identity, run_apart, same_state, tiny

UPDATES = 8


def run_all() -> list[dict[str, Any]]:
    """One row per part and moment."""
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        unbroken = run(
            tiny(folder, run_id="unbroken", mode="in_process", updates=UPDATES), observer=SilentObserver()
        ).run_dir
        for role in ROLES:
            for moment in MOMENTS:
                config = tiny(folder, run_id=f"{role}-{moment}", mode="split", updates=UPDATES)
                begun = time.perf_counter()
                code = run_apart(config, [{"update": 4, "role": role, "moment": moment}], folder)
                if role == "driver":
                    assert code == -9, code
                    code = run_apart(config, [], folder)
                directory = folder / str(config.run_id)
                rows.append(
                    {
                        "part": role,
                        "moment": moment,
                        "exit": code,
                        "seconds": time.perf_counter() - begun,
                        "equal": identity(directory) == identity(unbroken) and same_state(directory, unbroken),
                    }
                )
                print(rows[-1], file=sys.stderr, flush=True)
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """As Markdown."""
    lines = [
        "| killed | moment | selections, losses and final state equal the unbroken run | seconds |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| {r['part']} | {r['moment']} | {'yes' if r['equal'] else '**NO**'} | {r['seconds']:.0f} |" for r in rows
    ]
    return "\n".join(lines)
