"""The demo: OnlineVPO on the bundled world, small enough for two CPU cores and a few minutes."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cluster.config import RunConfig
from services.config import build_config
from services.yaml_source import Document

# Chosen on validation prompts (LOG.md); the test prompts were looked at once, with fresh noise.
PRESET: dict[str, Any] = {
    "updates": 60,
    "prompts_per_update": 8,
    "reference_update_interval": 20,
    "torch_threads": 1,
    "policy": {"path": "shapes", "lora": {"rank": 8, "alpha": 8.0}},
    "sampling": {
        "candidates_per_prompt": 4,
        "num_inference_steps": 6,
        "guidance_scale": 1.0,
        "max_sequence_length": 8,
        "num_frames": 9,
        "height": 32,
        "width": 32,
        "fps": 8,
    },
    "prompts": {"train": "shapes:train", "validation": "shapes:validation", "test": "shapes:test"},
    "reward": {"model": "shapes", "combine": "mean_z", "calibration_samples": 240},
    "objective": {
        "beta": 100.0,
        "beta_schedule": "constant",
        "timestep_density": "uniform",
        "draws_per_pair": 2,
    },
    "learner": {
        "learning_rate": 1e-3,
        "adam_betas": [0.9, 0.95],
        "warmup_updates": 5,
        "max_gradient_norm": 1.0,
    },
    "evaluation": {"samples_per_prompt": 4, "ground_truth": "shapes"},
    "placement": {"mode": "split", "generators": 2},
}


def demo_config(settings: Mapping[str, Any], overrides: Sequence[str] = ()) -> RunConfig:
    """The preset with settings by dotted key (None: as in the preset), then `--set` overrides.

    Raises:
        InputError: a setting or override cannot be used.
    """
    values = _copy(PRESET)
    for key, value in settings.items():
        if value is None:
            continue
        *sections, name = key.split(".")
        inner = values
        for section in sections:
            inner = inner.setdefault(section, {})
        inner[name] = value
    document = Document(value=values)
    run_id = f"demo-seed{values.get('seed', 0)}-{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"
    return build_config(document, overrides, name="demo", folder=Path.cwd(), run_id=run_id)


def _copy(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _copy(value) if isinstance(value, Mapping) else value for key, value in values.items()}
