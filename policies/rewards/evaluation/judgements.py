"""What people said about videos, with or without the scores that go with it: the values that metrics take.

A pair's label is A, B, same, or invalid (nobody could tell; an empty label means the same). Internally these are
+1, -1, 0 and None.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from policies.rewards.evaluation.csv_table import Row

LABELS: Mapping[str, int | None] = {"A": 1, "B": -1, "same": 0, "invalid": None, "": None}


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedPair:
    """Two videos of one prompt, one of which people may prefer. A score that does not exist is None."""

    prompt_id: str
    label: int | None
    score_A: float | None
    score_B: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedVideo:
    """A video of a prompt: whether people find it the best of its prompt, and how they rate it; None: not asked."""

    prompt_id: str
    score: float | None
    is_best: bool | None = None
    rating: float | None = None


def label_of(row: Row, column: str) -> int | None:
    """A row's label. Raises InputError on any other text."""
    text = row[column]
    if text not in LABELS:
        raise row.error(f"{column} is {text!r}; a label is A, B, same or invalid")
    return LABELS[text]


def is_best_of(row: Row, column: str) -> bool:
    """Whether a row is the best of its prompt, written 1 or 0."""
    if row[column] not in ("0", "1"):
        raise row.error(f"{column} is {row[column]!r}; write 1 for the best video of a prompt and 0 for the others")
    return row[column] == "1"
