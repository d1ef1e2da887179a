"""Run directories as a run leaves them, without a run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from cluster.config import RunConfig
from cluster.run_directory import RunDirectory, write_json
from tests.cluster.toy_run import toy_config

PAIRS_PER_UPDATE = 2


def written_config(**sections: Any) -> RunConfig:
    return toy_config(updates=1000, **sections)


def metrics_line(update: int, *, loss: float | None = 0.5, swap_every: int = 5) -> dict[str, Any]:
    ids = [f"u{update:06d}-p{slot:03d}" for slot in range(PAIRS_PER_UPDATE)] if loss is not None else []
    return {
        "update": update,
        "policy_version": update,
        "reference_version": update // swap_every * swap_every,
        "loss": loss,
        "loss_hex": None if loss is None else loss.hex(),
        "group_ids": ids,
        "dropped_reasons": {"gap_too_small": 1},
        "reward_mean": update / 10,
        "reward_p10": None,
        "scores": {"VQ": {"mean": 1.0, "std": 0.5}, "MQ": {"mean": float(update), "std": None}},
        "seconds": {"generate": 0.5, "wait": 0.25},
        "pids": {"learner": [1]},
        "is_odd": True,
    }


def write_groups(directory: RunDirectory, line: dict[str, Any]) -> None:
    """One file per pair; the second pair's chosen candidate is the worse one by MQ."""
    for slot, group_id in enumerate(line["group_ids"]):
        members = [
            {"seed": 2**62, "scores": {"VQ": 0.0, "MQ": 0.5}, "reward": 0.0, "failure": None, "weights_hash": "w"},
            {"seed": 7, "scores": {"VQ": 1.0, "MQ": 1.0 - slot}, "reward": 1.0, "failure": None, "weights_hash": "w"},
        ]
        record = {
            "group_id": group_id, "prompt": {"id": f"prompt-{slot}", "text": "a red square"}, "members": members,
            "policy_version": line["policy_version"], "chosen": 1, "rejected": 0, "dropped": None,
        }  # fmt: skip
        write_json(directory.group_file(group_id), record)


def write_update(directory: RunDirectory, update: int, **kinds: Any) -> dict[str, Any]:
    """What the controller has written before it tells an observer."""
    line = metrics_line(update, **kinds)
    write_groups(directory, line)
    directory.append_metrics(line)
    return line


def write_samples(directory: RunDirectory, version: int) -> None:
    side = {"reward": 0.5, "scores": {"VQ": 1.0}}
    index = [{"name": "a-red-square", "prompt": "a red square", "seed": 3, "before": side, "after": side}]
    write_json(directory.samples / "index.json", index)
    write_json(directory.path / "test.json", {"policy_version": version})


def write_result(directory: RunDirectory, ended: str) -> None:
    write_json(directory.path / "result.json", {"ended": ended})


def write_validation(directory: RunDirectory, version: int) -> dict[str, Any]:
    line = {"policy_version": version, "reward_mean": 0.75, "scores": {"VQ": 1.5}, "samples": 4}
    with (directory.path / "validation.jsonl").open("a") as file:
        file.write(json.dumps(line) + "\n")
    return line


def new_run(parent: Path, run_id: str = "demo") -> RunDirectory:
    directory = RunDirectory(parent / run_id)
    directory.create(written_config())
    return directory
