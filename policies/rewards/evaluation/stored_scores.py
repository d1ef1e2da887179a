"""CSV files of stored scores, to evaluate without a model.

    prompt_id, score_A, score_B, label     pairs
    prompt_id, score, best                 best of n: 1 for the human-best video of a prompt, 0 for its others
    prompt_id, score, rating               ratings, higher is better; `best` and `rating` may stand side by side

Other columns are not looked at. An empty score is a missing one.
"""

from __future__ import annotations

from pathlib import Path

from policies.errors import InputError
from policies.rewards.evaluation.csv_table import Table, read_table
from policies.rewards.evaluation.judgements import JudgedPair, JudgedVideo, is_best_of, label_of

PAIR_COLUMNS = ("prompt_id", "score_A", "score_B", "label")


def read_stored_scores(path: Path) -> list[JudgedPair] | list[JudgedVideo]:
    """Reads stored scores of pairs or of videos, by the columns that are there.

    Raises:
        InputError: the file is no such table; says which line, and what is wrong with it.
    """
    table = read_table(path)
    if "score" in table.columns and not {"score_A", "score_B"} & set(table.columns):
        return _videos(table)
    table.need(PAIR_COLUMNS)
    return [
        JudgedPair(
            prompt_id=row.required("prompt_id"),
            label=label_of(row, "label"),
            score_A=row.number("score_A"),
            score_B=row.number("score_B"),
        )
        for row in table.rows
    ]


def _videos(table: Table) -> list[JudgedVideo]:
    table.need(("prompt_id", "score"))
    has_best, has_rating = "best" in table.columns, "rating" in table.columns
    if not has_best and not has_rating:
        raise InputError(f"{table.path}: has the column score but neither best nor rating; add what people said")
    return [
        JudgedVideo(
            prompt_id=row.required("prompt_id"),
            score=row.number("score"),
            is_best=is_best_of(row, "best") if has_best else None,
            rating=row.number("rating") if has_rating else None,
        )
        for row in table.rows
    ]
