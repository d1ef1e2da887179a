"""The configuration of a run: one YAML file, checked completely before anything starts.

Imports neither torch nor ray, so that `validate` answers at once. How problems are told and what paths are relative to:
see `services.config_source`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

from cluster.config import RunConfig
from cluster.run_directory import RunDirectory, differing_keys
from policies.errors import InputError
from services.config_files import file_problems, get, path_keys, resolved
from services.config_keys import put
from services.config_source import Source, read_document, shown, validated
from services.yaml_source import Document

_NEEDS = "a run needs at least policy.path and prompts.train"


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> RunConfig:
    """Reads a config file, applies `--set key=value` overrides, and checks what can be checked without torch.

    Raises:
        InputError: with every problem, one a line.
    """
    file = Path(path)
    document = read_document(file)
    run_id = re.sub(r"[^A-Za-z0-9._-]+", "-", file.stem).strip("-._")[:80] or "run"
    return build_config(document, overrides, name=str(path), folder=file.resolve().parent, run_id=run_id)


def build_config(document: Document, overrides: Sequence[str], *, name: str, folder: Path, run_id: str) -> RunConfig:
    """A checked configuration from YAML values and overrides.

    Args:
        name: what to call the document in messages.
        folder: what its relative paths are relative to.
        run_id: the run's name where none is set.
    """
    source = Source(document=document, name=name, folder=folder, root=RunConfig, needs=_NEEDS)
    values, problems = source.values(overrides)
    config, found, repaired = validated(values, source, RunConfig)
    problems += found
    bad = {problem.key for problem in problems}
    problems += file_problems(repaired, bad, source.resolve)
    source.refuse(problems)
    assert config is not None
    config = _with_paths(config, source, run_id)
    _check_run_directory(config)
    return config


def diff_configs(one: RunConfig, other: RunConfig) -> list[str]:
    """What differs between two runs, as `learner.learning_rate: 0.001 -> 0.0005`; where they lie does not count."""
    values, others = one.model_dump(mode="json"), other.model_dump(mode="json")
    return [f"{key}: {shown(get(values, key))} -> {shown(get(others, key))}" for key in differing_keys(one, other)]


def _with_paths(config: RunConfig, source: Source, run_id: str) -> RunConfig:
    values = config.model_dump(mode="json")
    for key, is_hub_key in path_keys(values):
        written = get(values, key)
        if isinstance(written, str):
            put(values, tuple(key.split(".")), resolved(key, written, source.resolve, is_hub_key=is_hub_key))
    values["run_id"] = config.run_id or run_id
    return RunConfig.model_validate_json(json.dumps(values), strict=True)


def _check_run_directory(config: RunConfig) -> None:
    """Refuses a run directory that holds something else, so that nothing is overwritten."""
    assert config.run_id is not None
    directory = RunDirectory(Path(config.output_dir) / config.run_id)
    if directory.exists:
        changed = diff_configs(directory.read_config(), config)
        if changed:
            raise InputError(
                f"{directory.path} belongs to a run with another configuration; it differs in\n  "
                + "\n  ".join(changed)
                + "\nChoose another run_id or output_dir, or resume the run as it is"
            )
    elif directory.path.exists() and (not directory.path.is_dir() or any(directory.path.iterdir())):
        raise InputError(f"{directory.path} exists and is not a run; choose another run_id or output_dir")
