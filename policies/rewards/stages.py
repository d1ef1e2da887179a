"""Values on the way to a score in the form of the reference values: short enough to print, exact enough to compare."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
from torch import Tensor


def summary(values: Tensor, *, shown: int = 8) -> dict[str, Any]:
    """Shape, mean, standard deviation (of the population), extremes, and the first and last values of a tensor."""
    flat = values.detach().flatten().double().cpu()
    return {
        "shape": list(values.shape),
        "mean": float(flat.mean()),
        "std": float(flat.std(correction=0)),
        "min": float(flat.min()),
        "max": float(flat.max()),
        "first": flat[:shown].tolist(),
        "last": flat[-shown:].tolist(),
    }


def sha256_of_array(array: np.ndarray) -> str:
    """sha256, as hex, of an array's values in row-major order."""
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()
