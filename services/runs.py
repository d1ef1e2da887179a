"""Finds runs and reads what they were made with."""

from __future__ import annotations

import difflib
from pathlib import Path

import yaml
from pydantic import ValidationError

from cluster.config import RunConfig
from cluster.run_directory import RunDirectory
from policies.errors import InputError


def find_run(run: str, output_dir: str) -> Path:
    """The run directory that a path, or an id under `output_dir`, means.

    Raises:
        InputError: there is none; the message names runs that exist.
    """
    root = Path(output_dir).expanduser()
    for folder in (Path(run).expanduser(), root / run):
        if RunDirectory(folder).exists:
            return folder.resolve()
    known = sorted(folder.name for folder in root.iterdir() if RunDirectory(folder).exists) if root.is_dir() else []
    near = difflib.get_close_matches(Path(run).name, known, n=1)
    hint = (
        f"did you mean {near[0]}?" if near else f"runs there: {', '.join(known[-5:])}" if known else "it holds no runs"
    )
    raise InputError(f"{run} is neither a run directory (with a config.yaml) nor the id of a run in {root}; {hint}")


def read_run_config(run_dir: Path) -> RunConfig:
    """The configuration that a run was made with."""
    try:
        return RunDirectory(run_dir).read_config()
    except (ValidationError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(
            f"{run_dir / 'config.yaml'} is no configuration of this version ({error}); restore it as the run wrote it"
        ) from None
