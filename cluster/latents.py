"""The latents of a pair as a file."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from safetensors.numpy import save

from cluster.run_directory import write_atomic


def write_latents(path: Path, chosen: np.ndarray, rejected: np.ndarray) -> str:
    """Writes a pair's latents as float32 safetensors, atomically; returns the file's sha256."""
    data = save(
        {"chosen": np.ascontiguousarray(chosen, np.float32), "rejected": np.ascontiguousarray(rejected, np.float32)}
    )
    write_atomic(path, data)
    return hashlib.sha256(data).hexdigest()
