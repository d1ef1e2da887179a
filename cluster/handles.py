"""Handles of a cluster: a candidate's row in an array that lies in the object store.

A slice's latents are one object and its frames another, whatever the number of candidates: each object costs about half
a millisecond between the process that makes it, the controller that names it and the one that reads it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

Place: TypeAlias = tuple[int, int]
"""Number of an array among those that a call passes, and the row in it."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row of an array in the object store."""

    array: Any  # ray.ObjectRef; this module does without Ray
    index: int

    async def fetch(self) -> np.ndarray:
        """The row itself: for evaluation and sample videos, never for training."""
        row: np.ndarray = (await self.array)[self.index]
        return row


def as_arguments(rows: Sequence[Row]) -> tuple[list[Place], list[Any]]:
    """Where each row lies, and the distinct arrays, which must be arguments of their own so that Ray resolves them."""
    arrays: dict[Any, int] = {}
    places = [(arrays.setdefault(row.array, len(arrays)), row.index) for row in rows]
    return places, list(arrays)


def rows_of(places: Sequence[Place], arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The rows, where the arrays have arrived."""
    return [arrays[number][index] for number, index in places]
