"""What people said about videos, read from CSV files to learn from: labelled pairs, or ratings.

Pairs (VideoAlign's layout): path_A, path_B, prompt, and per dimension a label A, B, same or invalid.
Ratings: path, prompt, and per dimension a number; an empty field is a missing one. A CSV of pairs holds ratings too, in
its columns MOS_A_<dimension> and MOS_B_<dimension>, where 0 means not rated.

Other columns (fps_A, num_frames_A, ...) are not looked at: videos say that themselves.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from policies.errors import InputError
from policies.rewards.evaluation.csv_table import Row, Table, read_table
from policies.rewards.evaluation.judgements import label_of
from policies.rewards.training.config import RewardDataConfig, RewardLossConfig
from policies.rewards.videoreward.template import DIMENSIONS
from policies.seeds import seed_for

NAMES: Mapping[int | None, str] = {1: "A", -1: "B", 0: "same", None: "invalid"}
_SHOWN = 5


@dataclass(frozen=True, slots=True)
class PromptedVideo:
    """A video file, and the prompt that it was made for."""

    path: Path
    prompt: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One row: two videos and labels +1, -1, 0 (see `policies.rewards.bradley_terry`), or one video and ratings; NaN
    where nobody judged. `place` is its file and line."""

    videos: tuple[PromptedVideo, ...]
    labels: tuple[float, ...]
    place: str

    @property
    def prompt(self) -> str:
        return self.videos[0].prompt


@dataclass(frozen=True, slots=True, kw_only=True)
class ExampleTable:
    """A file's examples with at least one label or rating, and how many of what it holds.

    Args:
        counts: by dimension, rows by label (A, B, same, invalid) or by rated and missing.
        left_out: rows, or videos of rows, that nobody judged.
    """

    examples: tuple[Example, ...]
    counts: dict[str, dict[str, int]]
    rows: int
    left_out: int


def read_examples(path: Path, data: RewardDataConfig, loss: RewardLossConfig) -> ExampleTable:
    """Reads a CSV file of pairs, or of ratings where the loss is a regression.

    Raises:
        InputError: a column is missing, a label or number is none, or no row is judged.
    """
    table = read_table(path)
    folder = Path(data.videos) if data.videos is not None else path.parent
    columns = {name: name for name in DIMENSIONS} | (data.columns or {})
    if loss.type == "regression":
        found = _ratings(table, folder, columns, loss.rating_offset)
    else:
        found = _pairs(table, folder, columns)
    judged = tuple(example for example in found if not all(map(math.isnan, example.labels)))
    if not judged:
        raise InputError(f"{path}: none of its {len(table.rows)} rows has a usable label")
    counts = {name: _counts(found, index, loss) for index, name in enumerate(DIMENSIONS)}
    return ExampleTable(examples=judged, counts=counts, rows=len(table.rows), left_out=len(found) - len(judged))


def to_learn_from(examples: Sequence[Example], loss: RewardLossConfig) -> tuple[Example, ...]:
    """The examples that have something the loss can use: with bt, ties are nothing.

    Raises:
        InputError: there is nothing to learn from in a dimension.
    """
    usable = tuple(example for example in examples if any(_is_usable(label, loss) for label in example.labels))
    for index, name in enumerate(DIMENSIONS):
        if not any(_is_usable(example.labels[index], loss) for example in usable):
            said = ", ".join(f"{count} {label}" for label, count in _counts(examples, index, loss).items() if count)
            raise InputError(
                f"data.train teaches nothing in {name} with loss.type {loss.type}: {said or 'no rows'} to train on"
            )
    return usable


def split_by_prompt(examples: Sequence[Example], share: float) -> tuple[tuple[Example, ...], tuple[Example, ...]]:
    """Examples to train on, and those to measure on: all examples of a share of the prompts, at least of one.

    Which prompts these are follows from their texts alone, so other seeds and other runs keep the same ones apart.

    Raises:
        InputError: there is only one prompt to share out.
    """
    prompts = sorted({example.prompt for example in examples}, key=lambda prompt: seed_for("held out", prompt))
    if share == 0:
        return tuple(examples), ()
    if len(prompts) < 2:
        raise InputError(f"all {len(examples)} rows have one prompt; give data.heldout, or data.heldout_share 0")
    kept = set(prompts[: min(max(1, round(share * len(prompts))), len(prompts) - 1)])
    return (
        tuple(example for example in examples if example.prompt not in kept),
        tuple(example for example in examples if example.prompt in kept),
    )


def videos_of(examples: Iterable[Example]) -> list[PromptedVideo]:
    """Every video of some examples once, in order of appearance."""
    return list(dict.fromkeys(video for example in examples for video in example.videos))


def without_missing_files(examples: Sequence[Example], *, skip: bool) -> tuple[Example, ...]:
    """The examples whose files are there.

    Args:
        skip: leave the others out; otherwise they are an error.
    Raises:
        InputError: files are missing; names the first few, and where they are asked for.
    """
    is_there = {video.path: video.path.is_file() for video in videos_of(examples)}
    missing = [path for path, there in is_there.items() if not there]
    if not missing or skip:
        return tuple(example for example in examples if all(is_there[video.path] for video in example.videos))
    place = next(e.place for e in examples for video in e.videos if video.path == missing[0])
    more = f" and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
    raise InputError(
        f"{place}: {len(missing)} of {len(is_there)} videos are missing: {', '.join(map(str, missing[:_SHOWN]))}{more}"
        "; set data.videos to the folder that the paths are relative to, or data.skip_unreadable to do without"
    )


def _is_usable(label: float, loss: RewardLossConfig) -> bool:
    return not math.isnan(label) and (loss.type != "bt" or label != 0)


def _pairs(table: Table, folder: Path, columns: Mapping[str, str]) -> list[Example]:
    table.need(("path_A", "path_B", "prompt", *columns.values()))
    found = []
    for row in table.rows:
        videos = tuple(_video(row, f"path_{side}", folder) for side in "AB")
        labels = [label_of(row, columns[name]) for name in DIMENSIONS]
        numbers = tuple(math.nan if label is None else float(label) for label in labels)
        found.append(Example(videos=videos, labels=numbers, place=f"{row.path}:{row.line}"))
    return found


def _ratings(table: Table, folder: Path, columns: Mapping[str, str], offset: float) -> list[Example]:
    if "path_A" not in table.columns:
        table.need(("path", "prompt", *columns.values()))
        return [_rated(row, "path", folder, columns.values(), offset, missing=None) for row in table.rows]
    names = {side: [f"MOS_{side}_{name}" for name in DIMENSIONS] for side in "AB"}
    table.need(("path_A", "path_B", "prompt", *names["A"], *names["B"]))
    return [
        _rated(row, f"path_{side}", folder, names[side], offset, missing=0.0) for row in table.rows for side in "AB"
    ]


def _rated(
    row: Row, column: str, folder: Path, rating_columns: Iterable[str], offset: float, *, missing: float | None
) -> Example:
    ratings = [row.number(name) for name in rating_columns]
    labels = tuple(math.nan if rating is None or rating == missing else rating + offset for rating in ratings)
    return Example(videos=(_video(row, column, folder),), labels=labels, place=f"{row.path}:{row.line}")


def _video(row: Row, column: str, folder: Path) -> PromptedVideo:
    return PromptedVideo(folder / row.required(column), row["prompt"])


def _counts(examples: Sequence[Example], index: int, loss: RewardLossConfig) -> dict[str, int]:
    labels = [example.labels[index] for example in examples]
    missing = sum(map(math.isnan, labels))
    if loss.type == "regression":
        return {"rated": len(labels) - missing, "missing": missing}
    return {name: sum(label == value for label in labels) for value, name in NAMES.items() if value is not None} | {
        "invalid": missing
    }
