"""A run directory as the controller leaves it, made up: curves that learn, two swaps, videos, a test."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np
import yaml

from cluster.config import RunConfig
from services.demo import PRESET

DIMENSIONS = ("VQ", "MQ", "TA")


def fake_config(output_dir: Path, **changes: Any) -> RunConfig:
    """The demo's configuration."""
    values = PRESET | {"run_id": "demo-seed0", "output_dir": str(output_dir)} | changes
    return RunConfig.model_validate_json(json.dumps(values), strict=True)


def fake_line(
    update: int,
    prompt: str = "a red circle moving left slowly",
    interval: int = 20,
    dimensions: Sequence[str] = DIMENSIONS,
) -> dict[str, Any]:
    """One line of metrics.jsonl."""
    rng = random.Random(update)
    rise = 1 - math.exp(-update / 20)
    mean = 0.9 * rise + rng.gauss(0, 0.08)
    loss = 0.69 - 0.12 * rise + rng.gauss(0, 0.02)
    return {
        "update": update,
        "policy_version": update,
        "reference_version": update // interval * interval,
        "loss": loss,
        "loss_hex": loss.hex(),
        "group_ids": [f"u{update:06d}-p{slot:03d}" for slot in range(8)],
        "dropped": 0,
        "dropped_reasons": {"gap_too_small": 1} if update % 13 == 0 else {},
        "drop_rate": 0.125 if update % 13 == 0 else 0.0,
        "pairs": [
            {
                "group_id": f"u{update:06d}-p{slot:03d}", "prompt_id": f"train-{slot:03d}", "prompt": prompt,
                "chosen_seed": 7129387129387129387 + slot, "rejected_seed": 8127638712638123812 + slot,
                "chosen_reward": mean + 0.5 + 0.01 * slot, "rejected_reward": mean - 0.4,
            }
            for slot in range(8)
        ],
        "videos": 32,
        "unscored": 0,
        "reward_mean": mean, "reward_std": 0.6 - 0.2 * rise, "reward_p10": mean - 0.7 + 0.2 * rise,
        "reward_p90": mean + 0.7 - 0.2 * rise,
        "gap_mean": 0.9 - 0.3 * rise + rng.gauss(0, 0.05),
        "scores": {
            name: {"mean": index + mean, "std": 0.5, "p10": index + mean - 0.6, "p90": index + mean + 0.6}
            for index, name in enumerate(dimensions)
        },
        "weights_hash": f"{update:064x}",
        "seconds": {"generate": 0.22 + rng.random() * 0.02, "score": 0.05, "update": 0.14, "wait": 0.01},
        "pids": {"generators": [11, 12], "scorer": [13], "learner": [14]},
        "implicit_accuracy": 0.5 + 0.25 * rise + rng.gauss(0, 0.04),
        "margin_abs_mean": 0.1 + 0.4 * rise,
        "margin_mean": 0.4 * rise + rng.gauss(0, 0.05),
        "chosen_error_delta": -0.02 * (update % interval) / interval + rng.gauss(0, 0.002),
        "rejected_error_delta": 0.03 * (update % interval) / interval + rng.gauss(0, 0.002),
        "gate_openness": 0.5 - 0.08 * rise,
        "kl_reference": 0.004 * (update % interval), "kl_base": 0.003 * update,
        "gradient_norm": 0.6 + abs(rng.gauss(0, 0.3)),
        "learning_rate": 1e-3 * min(1, (update + 1) / 5),
        "latent_std_chosen": 0.92 + 0.05 * rise, "latent_std_rejected": 0.9 + 0.02 * rise,
        "diversity": 0.5 - 0.1 * rise,
    }  # fmt: skip


FAKE_TEST = {
    "policy_version": 60, "samples": 96, "prompts": 24, "reward_before": -0.04, "reward_after": 0.83,
    "diversity_before": 0.061, "diversity_after": 0.055, "reward_win_rate": 0.95, "reward_gain_ci95": [0.78, 0.96],
    "ground_truth_before": 0.646, "ground_truth_after": 0.823, "ground_truth_gain_ci95": [0.152, 0.201],
    "ground_truth_after_energy_matched": 0.799, "ground_truth_energy_matched_gain_ci95": [0.128, 0.179],
    "win_rate": 0.97, "win_rate_margin_0_05": 0.87, "lose_rate_margin_0_05": 0.01,
    "parts_before": {"quality": 0.61, "motion": 0.48, "alignment": 0.85},
    "parts_after": {"quality": 0.84, "motion": 0.7, "alignment": 0.93},
}  # fmt: skip


def fake_video(path: Path, *, hue: int) -> None:
    """Nine frames of a disc that moves left."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows, columns = np.mgrid[:32, :32]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=8)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        for frame in range(9):
            pixels = np.full((32, 32, 3), 30, np.uint8)
            pixels[(rows - 16) ** 2 + (columns - 24 + 2 * frame) ** 2 < 40, hue % 3] = 230
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))


def fake_run_dir(
    output_dir: Path, *, updates: int = 60, prompt: str = "a red circle moving left slowly", finished: bool = True
) -> Path:
    """Writes a run directory and returns it."""
    config = fake_config(output_dir)
    run_dir = output_dir / "demo-seed0"
    run_dir.mkdir(parents=True)
    (run_dir / "config.yaml").write_text(yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False))
    lines = [json.dumps(fake_line(update, prompt)) + "\n" for update in range(updates)]
    (run_dir / "metrics.jsonl").write_text("".join(lines))
    if not finished:
        return run_dir
    reward_model = {"name": "shapes", "revision": "54ab", "files": {"model.safetensors": "54ab"}}
    (run_dir / "reward_model.json").write_text(json.dumps(reward_model))
    (run_dir / "calibration.json").write_text(json.dumps({"VQ": {"mean": 0.2, "std": 1.1}}))
    validation = [
        {"policy_version": version, "reward_mean": 0.8 * (1 - math.exp(-version / 20)), "samples": 64, "unscored": 0,
         "scores": {name: 0.5 * index + 0.01 * version for index, name in enumerate(DIMENSIONS)}}
        for version in range(10, updates + 1, 10)
    ]  # fmt: skip
    (run_dir / "validation.jsonl").write_text("".join(json.dumps(line) + "\n" for line in validation))
    (run_dir / "test.json").write_text(json.dumps(FAKE_TEST))
    (run_dir / "result.json").write_text(json.dumps({"ended": "completed", "updates": updates}))
    index = []
    for number in range(4):
        name = f"test-{number:03d}-123456"
        for when in ("before", "after"):
            fake_video(run_dir / "samples" / f"{name}-{when}.mp4", hue=number + (when == "after"))
        index.append(
            {"name": name, "prompt": prompt, "seed": 4512376512376 + number,
             "before": {"reward": -0.3, "scores": {"VQ": 0.1, "MQ": -0.4, "TA": 1.1}},
             "after": {"reward": 0.9, "scores": {"VQ": 0.9, "MQ": 0.5, "TA": 1.0}}}
        )  # fmt: skip
    (run_dir / "samples" / "index.json").write_text(json.dumps(index))
    return run_dir
