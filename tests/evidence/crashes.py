"""Every part killed at every moment, each in a run of its own, against the unbroken run in one process."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from cluster.config import RunConfig
from cluster.controller import run
from cluster.observer import SilentObserver
from tests.cluster.crashes import MOMENTS, ROLES, identity, tiny
from tests.cluster.test_controller import same_state

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
                code = crash(config, {"update": 4, "role": role, "moment": moment}, folder)
                if role == "driver":
                    assert code == -9, code
                    code = crash(config, None, folder)
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


def crash(config: RunConfig, planned: dict[str, Any] | None, folder: Path) -> int:
    """Runs the configuration in a process of its own, with one crash planned or none; its exit status."""
    (folder / "config.json").write_text(config.model_dump_json())
    (folder / "crashes.json").write_text(json.dumps([planned] if planned else []))
    command = [sys.executable, "-m", "tests.cluster.crashes", str(folder / "config.json"), str(folder / "crashes.json")]
    return subprocess.run(command, check=False, stdout=subprocess.DEVNULL).returncode


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
