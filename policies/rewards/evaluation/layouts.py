"""Data sets of videos that people judged, as CSV files that name video files.

Pairs (VideoGen-RewardBench, VideoAlign's training data, or a plain table of your own):

    path_A, path_B, prompt              the videos, relative to one folder, and what both should show
    Overall (or label), VQ, MQ, TA, ... labels A, B, same or invalid; a column counts when it is called Overall, label,
                                        or like a dimension of the reward model
    prompt_id                           optional; pairs with the same one are drawn together for intervals

Videos (best of n, ratings):

    path, prompt                        a video and what it should show
    best                                optional; 1 for the human-best video of a prompt, 0 for its others
    Overall (or rating), VQ, ...        optional; people's ratings, higher is better
    prompt_id                           optional; videos with the same one compete

Without prompt_id the prompt's text takes its place. Other columns (A_model, fps_A, num_frames_A, ...) do not count.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from policies.errors import InputError
from policies.rewards.evaluation.csv_table import Row, Table, read_table
from policies.rewards.evaluation.judgements import is_best_of, label_of

OVERALL = "Overall"
_PLAIN_NAMES = {"label", "rating"}  # of the column of the overall judgement
Judgement = TypeVar("Judgement")


@dataclass(frozen=True, slots=True)
class PromptedVideo:
    """A video file, as the data names it, and the prompt to judge it by."""

    path: str
    prompt: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PairRow:
    """Two videos of one prompt, with a label (+1, -1, 0, None) per judged dimension."""

    prompt_id: str
    first: PromptedVideo
    second: PromptedVideo
    labels: Mapping[str, int | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoRow:
    """A video with what people said about it."""

    prompt_id: str
    video: PromptedVideo
    is_best: bool | None
    ratings: Mapping[str, float | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class PairData:
    """Judged pairs."""

    rows: tuple[PairRow, ...]
    judged: tuple[str, ...]  # dimensions with labels, `Overall` among them if it is judged

    def videos(self) -> tuple[PromptedVideo, ...]:
        """Every video with its prompt, once, in order of appearance."""
        return tuple(dict.fromkeys(video for row in self.rows for video in (row.first, row.second)))


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoData:
    """Judged videos."""

    rows: tuple[VideoRow, ...]
    judged: tuple[str, ...]  # dimensions with ratings
    has_best: bool

    def videos(self) -> tuple[PromptedVideo, ...]:
        """Every video with its prompt, once, in order of appearance."""
        return tuple(dict.fromkeys(row.video for row in self.rows))


def read_judged_videos(path: Path, dimensions: Sequence[str]) -> PairData | VideoData:
    """Reads a data set, pairs or videos by its columns.

    Args:
        path: of the CSV file.
        dimensions: those of the reward model.
    Raises:
        InputError: the file has neither layout, nothing that was judged, or a line that cannot be used.
    """
    table = read_table(path)
    if {"path_A", "path_B"} & set(table.columns):
        return _pairs(table, dimensions)
    if "path" in table.columns:
        return _videos(table, dimensions)
    raise InputError(
        f"{path}: has neither path_A and path_B (pairs) nor path (videos); its columns are {', '.join(table.columns)}"
    )


def _pairs(table: Table, dimensions: Sequence[str]) -> PairData:
    table.need(("path_A", "path_B", "prompt"))
    columns = _judged_columns(table, dimensions, "label")
    if not columns:
        raise InputError(f"{table.path}: has no labels; add a column {', '.join((OVERALL, *dimensions))} or label")
    rows = tuple(
        PairRow(
            prompt_id=_prompt_id(row),
            first=PromptedVideo(row.required("path_A"), row.required_verbatim("prompt")),
            second=PromptedVideo(row.required("path_B"), row.required_verbatim("prompt")),
            labels=_judgements(row, columns, label_of),
        )
        for row in table.rows
    )
    if all(label is None for row in rows for label in row.labels.values()):
        raise InputError(f"{table.path}: no pair is labelled A, B or same, so there is nothing to agree with")
    return PairData(rows=rows, judged=tuple(columns))


def _videos(table: Table, dimensions: Sequence[str]) -> VideoData:
    table.need(("path", "prompt"))
    columns = _judged_columns(table, dimensions, "rating")
    has_best = "best" in table.columns
    if not columns and not has_best:
        names = ", ".join((OVERALL, *dimensions))
        raise InputError(f"{table.path}: has no judgements; add a column best, {names} or rating")
    rows = tuple(
        VideoRow(
            prompt_id=_prompt_id(row),
            video=PromptedVideo(row.required("path"), row.required_verbatim("prompt")),
            is_best=is_best_of(row, "best") if has_best else None,
            ratings=_judgements(row, columns, Row.number),
        )
        for row in table.rows
    )
    if has_best:
        _check_one_best(table, rows)
    return VideoData(rows=rows, judged=tuple(columns), has_best=has_best)


def _check_one_best(table: Table, rows: Sequence[VideoRow]) -> None:
    best = dict.fromkeys((row.prompt_id for row in rows), 0)
    for row in rows:
        best[row.prompt_id] += bool(row.is_best)
    wrong = next((prompt_id for prompt_id, count in best.items() if count != 1), None)
    if wrong is not None:
        raise InputError(
            f"{table.path}: prompt {wrong!r} has {best[wrong]} videos marked best; mark one of each prompt"
        )


def _judged_columns(table: Table, dimensions: Sequence[str], plain: str) -> dict[str, str]:
    """The column of each judged dimension, those of the model first."""
    found = {name: name for name in (*dimensions, OVERALL) if name in table.columns}
    if plain in table.columns:
        if OVERALL in found:
            raise InputError(f"{table.path}: has both {OVERALL} and {plain}, which mean the same; remove one")
        found[OVERALL] = plain
    return found


def _judgements(row: Row, columns: Mapping[str, str], read: Callable[[Row, str], Judgement]) -> dict[str, Judgement]:
    return {name: read(row, column) for name, column in columns.items()}


def _prompt_id(row: Row) -> str:
    return row.required("prompt_id") if "prompt_id" in row.values else row.required_verbatim("prompt")
