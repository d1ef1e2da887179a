"""The data of a training: its CSV files, read, shared out and checked."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from policies.errors import InputError
from policies.rewards.training.config import RewardTrainingConfig
from policies.rewards.training.examples import (
    Example,
    ExampleTable,
    read_examples,
    split_by_prompt,
    to_learn_from,
    videos_of,
    without_missing_files,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingData:
    """What a training learns from and is measured on.

    Args:
        table: of the training file, before anything is held out.
        left_out: rows that are not learned from.
        digest: of the CSV files.
    """

    table: ExampleTable
    training: tuple[Example, ...]
    heldout: tuple[Example, ...]
    left_out: int
    digest: str

    def summary(self) -> dict[str, Any]:
        """Numbers that say what is used for what, as JSON values."""
        prompts = {example.prompt for example in self.training}
        return {
            "rows": self.table.rows,
            "labels": self.table.counts,
            "rows_left_out": self.left_out,
            "training_examples": len(self.training),
            "training_videos": len(videos_of(self.training)),
            "training_prompts": len(prompts),
            "heldout_examples": len(self.heldout),
            "heldout_prompts": len({example.prompt for example in self.heldout}),
            "heldout_prompts_in_training": len({e.prompt for e in self.heldout} & prompts),
        }


def read_training_data(config: RewardTrainingConfig) -> TrainingData:
    """Reads the CSV files and looks whether the videos are there.

    Raises:
        InputError: a file cannot be used, videos are missing, or there is nothing to learn from in a dimension.
    """
    data = config.data
    table = read_examples(Path(data.train), data, config.loss)
    files = [Path(data.train)]
    if data.heldout is None:
        judged, heldout = split_by_prompt(table.examples, data.heldout_share)
    else:
        files.append(Path(data.heldout))
        judged, heldout = table.examples, read_examples(Path(data.heldout), data, config.loss).examples
    training = to_learn_from(judged, config.loss)
    digests = [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]
    return TrainingData(
        table=table,
        training=_there(training, data.train, skip=data.skip_unreadable),
        heldout=_there(heldout, data.heldout or data.train, skip=data.skip_unreadable),
        left_out=table.left_out + len(judged) - len(training),
        digest=" ".join(digests),
    )


def _there(examples: Sequence[Example], source: str, *, skip: bool) -> tuple[Example, ...]:
    found = without_missing_files(examples, skip=skip)
    if examples and not found:
        raise InputError(f"{source}: none of its videos is there; set data.videos to the folder they are in")
    return found
