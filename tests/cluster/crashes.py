"""Runs that lose a process at a named moment: a placement whose parts kill on the way, and the program to run it.

    python -m tests.cluster.crashes CONFIG.json CRASHES.json

CRASHES.json is a list of {"update": 3, "role": "learner", "moment": "scored"}; role is one of ROLES,
moment one of MOMENTS. Each happens once. The same program with an empty list resumes the run.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import load_file

from cluster.config import RunConfig
from cluster.controller import run
from cluster.observer import SilentObserver
from cluster.placement import Placement
from cluster.run_directory import RunDirectory
from cluster.start import start_placement
from policies.types import Candidate, SampleRequest, Scored

MOMENTS = ("sampled", "scored", "saving", "saved")  # the last two: during the checkpoint; before its manifest
ROLES = ("generators", "scorer", "learner", "mailbox", "driver")


@dataclass
class Crashes:
    """What is still to be killed, and when."""

    pending: list[dict[str, Any]]
    placement: Placement | None = None
    done: list[dict[str, Any]] = field(default_factory=list)

    def at(self, moment: str, update: int) -> None:
        """Kills what is due at this moment; one at a time, and later if it is dead and not yet replaced."""
        for crash in [c for c in self.pending if c["moment"] == moment and c["update"] <= update]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid(crash["role"]), signal.SIGKILL)
                self.pending.remove(crash)
                self.done.append(crash)
                return

    def _pid(self, role: str) -> int:
        if role == "driver":
            return os.getpid()
        assert self.placement is not None
        pids = self.placement.pids()[role]
        return int(pids[0] if isinstance(pids, list) else pids)


class CrashingGenerator:
    def __init__(self, inner: Any, crashes: Crashes) -> None:
        self._inner, self._crashes = inner, crashes

    async def sample(self, request: SampleRequest) -> list[Candidate]:
        candidates: list[Candidate] = await self._inner.sample(request)
        self._crashes.at("sampled", request.policy_version)
        return candidates


class CrashingScorer:
    def __init__(self, inner: Any, crashes: Crashes) -> None:
        self._inner, self._crashes = inner, crashes

    async def score(self, candidates: Sequence[Candidate]) -> list[Scored]:
        scored: list[Scored] = await self._inner.score(candidates)
        self._crashes.at("scored", candidates[0].policy_version)
        return scored


class CrashingLearner:
    """Kills while the learner saves, and between its answer and the manifest."""

    def __init__(self, inner: Any, crashes: Crashes) -> None:
        self._inner, self._crashes = inner, crashes

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def save(self, folder: str) -> dict[str, str]:
        saving = asyncio.ensure_future(self._inner.save(folder))
        await asyncio.sleep(0.002)
        self._crashes.at("saving", self._inner.policy_version)
        files: dict[str, str] = await saving
        self._crashes.at("saved", self._inner.policy_version)
        return files


class CrashingPlacement:
    """A placement whose parts crash; everything else is its own."""

    def __init__(self, inner: Any, crashes: Crashes) -> None:
        self._inner = inner
        self.generator = CrashingGenerator(inner.generator, crashes)
        self.scorer = CrashingScorer(inner.scorer, crashes)
        self.learner = CrashingLearner(inner.learner, crashes)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


def run_with_crashes(config: RunConfig, crashes: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Runs to the end through the crashes; returns those that happened."""
    plan = Crashes(pending=[dict(crash) for crash in crashes])

    async def start(config: RunConfig, directory: RunDirectory) -> Placement:
        plan.placement = await start_placement(config, directory)
        return cast(Placement, CrashingPlacement(plan.placement, plan))

    run(config, observer=SilentObserver(), start=start)
    return plan.done


def run_apart(
    config: RunConfig, crashes: Sequence[dict[str, Any]], folder: Path, *, environment: Mapping[str, str] | None = None
) -> int:
    """The same in a process of its own, which may be among those killed; its exit status."""
    files = [folder / "config.json", folder / "crashes.json"]
    files[0].write_text(config.model_dump_json())
    files[1].write_text(json.dumps(list(crashes)))
    command = [sys.executable, "-m", "tests.cluster.crashes", *map(str, files)]
    return subprocess.run(command, env=os.environ | (environment or {}), check=False, capture_output=True).returncode


def same_state(one: Path, other: Path) -> bool:
    """The newest checkpoints hold the same policy, reference and moments, to the last bit."""
    commits = [RunDirectory(path).newest_commit() for path in (one, other)]
    assert commits[0] is not None and commits[1] is not None
    states = [load_file(commit.folder / "learner.safetensors") for commit in commits if commit]
    return states[0].keys() == states[1].keys() and all(torch.equal(states[0][k], states[1][k]) for k in states[0])


def identity(run_dir: Path) -> list[tuple[Any, ...]]:
    """What must not depend on crashes or placement: selections, losses and weights, to the last bit."""
    return [
        (
            line["update"],
            line["policy_version"],
            line["reference_version"],
            line["loss_hex"],
            line["weights_hash"],
            tuple((p["group_id"], p["chosen_seed"], p["rejected_seed"]) for p in line["pairs"]),
        )
        for line in RunDirectory(run_dir).read_metrics()
    ]


def tiny(folder: Path, *, run_id: str, mode: str, updates: int = 6, **sections: Any) -> RunConfig:
    """The bundled models at a tenth of the demo's work per update; a commit every third update, a swap every fourth."""
    content: dict[str, Any] = {
        "run_id": run_id,
        "output_dir": str(folder),
        "updates": updates,
        "prompts_per_update": 2,
        "reference_update_interval": 4,
        "policy": {"path": "shapes", "lora": {"rank": 4, "alpha": 8.0}},
        "sampling": {
            "candidates_per_prompt": 2,
            "num_inference_steps": 2,
            "guidance_scale": 1.0,
            "max_sequence_length": 8,
            "num_frames": 9,
            "height": 32,
            "width": 32,
            "fps": 8.0,
        },
        "prompts": {"train": "shapes:train"},
        "reward": {"calibration_samples": 8},
        "objective": {"beta": 100.0, "draws_per_pair": 1},
        "learner": {"learning_rate": 1e-3, "warmup_updates": 2},
        "checkpoint": {"interval_updates": 3},
        "placement": {"mode": mode, "max_restarts": 100},
    }
    for name, section in sections.items():
        content[name] = content.get(name, {}) | section if isinstance(section, dict) else section
    return RunConfig.model_validate(content)


if __name__ == "__main__":
    done = run_with_crashes(
        RunConfig.model_validate_json(Path(sys.argv[1]).read_text()), json.loads(Path(sys.argv[2]).read_text())
    )
    print(json.dumps(done))
