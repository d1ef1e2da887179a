"""The configuration of a reward model's training: one YAML file, checked before anything is loaded. No torch."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from policies.rewards.training.config import RewardTrainingConfig
from services.config_files import get, resolved
from services.config_keys import put
from services.config_source import Source, read_document, validated
from services.yaml_source import Problem

_NEEDS = "a training needs at least model.base, data.train and output_dir"
_PATHS = ("model.base", "data.train", "data.heldout", "data.videos", "output_dir")


def load_training_config(path: str | Path, overrides: Sequence[str] = ()) -> RewardTrainingConfig:
    """Reads a config file, applies `--set key=value` overrides, and checks what can be checked without torch.

    Raises:
        InputError: with every problem, one a line.
    """
    file = Path(path)
    source = Source(
        document=read_document(file),
        name=str(path),
        folder=file.resolve().parent,
        root=RewardTrainingConfig,
        needs=_NEEDS,
    )
    values, problems = source.values(overrides)
    config, found, repaired = validated(values, source, RewardTrainingConfig)
    problems += found
    bad = {problem.key for problem in problems}
    for key in _PATHS:
        written = get(repaired, key)
        if isinstance(written, str) and key not in bad:
            put(repaired, tuple(key.split(".")), resolved(key, written, source.resolve, is_hub_key=key == "model.base"))
    problems += [problem for problem in _file_problems(repaired) if problem.key not in bad]
    source.refuse(problems)
    assert config is not None
    return RewardTrainingConfig.model_validate_json(json.dumps(repaired), strict=True)


def _file_problems(values: dict[str, Any]) -> Iterator[Problem]:
    """What the settings name is there, and of the right kind; paths are absolute, or a hub id."""
    base = get(values, "model.base")
    if isinstance(base, str) and Path(base).is_absolute():
        wanted = [name for name in ("config.json", "tokenizer.json") if not (Path(base) / name).is_file()]
        if not Path(base).is_dir():
            yield Problem(key="model.base", text=f"{base}: no such folder; give the base model's, or its hub id")
        elif wanted:
            yield Problem(key="model.base", text=f"{base}: has no {wanted[0]}; give the folder of a Qwen2-VL")
    for key in ("data.train", "data.heldout"):
        path = get(values, key)
        if isinstance(path, str) and not Path(path).is_file():
            yield Problem(key=key, text=f"{path}: no such file; give a CSV file")
    videos = get(values, "data.videos")
    if isinstance(videos, str) and not Path(videos).is_dir():
        yield Problem(key="data.videos", text=f"{videos}: no such folder; give the one that paths are relative to")
