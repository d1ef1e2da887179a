"""The configuration of a scoring service, read from YAML and checked before anything starts. No torch, no Ray."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from services.config_files import device_problem, resolved
from services.config_keys import KeyPath, put, value_at
from services.config_source import Source, read_document, validated
from services.reward_files import BUNDLED, reward_problems
from services.serve_config import ServeConfig
from services.yaml_source import Document, Problem, dotted

_WITHOUT_FILE = "onlinevpo serve"
OF_A_RUN = ("weights", "combine", "calibration_samples", "also")
_ANY = ("0.0.0.0", "::")
_HERE = ("data_dir", "store")  # like a run's output_dir: where the command is run, not where the file lies


def load_serve_config(
    path: str | Path | None, overrides: Sequence[str] = (), options: Mapping[str, Any] | None = None
) -> ServeConfig:
    """Reads a config file, applies what the command line says, and checks what can be checked without torch.

    Args:
        path: None for the defaults: the bundled reward model on this machine only.
        overrides: `key=value`, as given with `--set`.
        options: settings by key from options of their own; None for one that was not given.
    Raises:
        InputError: with every problem, one a line.
    """
    source = Source(
        document=Document(value={}) if path is None else read_document(path),
        name=_WITHOUT_FILE if path is None else str(path),
        folder=Path.cwd() if path is None else Path(path).resolve().parent,
        root=ServeConfig,
        needs="a service needs a setting or no file at all: without one it serves the bundled reward model",
    )
    values, problems = source.values(overrides)
    for key, value in (options or {}).items():
        if value is not None:
            source.overridden[(key,)] = f"--{key.replace('_', '-')}"
            put(values, (key,), value)
    config, found, repaired = validated(values, source, ServeConfig)
    problems += found
    bad = {problem.key for problem in problems}
    _resolve_paths(repaired, bad, source)
    problems += [problem for problem in _problems(repaired, bad) if problem.key not in bad]
    source.refuse(problems)
    assert config is not None
    return ServeConfig.model_validate_json(json.dumps(repaired), strict=True)


def _rewards(values: dict[str, Any]) -> Iterator[tuple[KeyPath, dict[str, Any]]]:
    """Every reward section that is written, by its path."""
    models = values.get("models")
    for name in models if isinstance(models, dict) else ():
        section = value_at(values, ("models", name, "reward"))
        if isinstance(section, dict):
            yield ("models", name, "reward"), section


def _resolve_paths(values: dict[str, Any], bad: set[str], source: Source) -> None:
    """Makes paths absolute, so that nothing depends on where a process later stands."""
    for path, section in _rewards(values):
        is_hub_key = section.get("model", BUNDLED) != BUNDLED
        for name in ("path", "base"):
            key, written = dotted((*path, name)), section.get(name)
            if isinstance(written, str) and key not in bad:
                section[name] = resolved(key, written, source.resolve, is_hub_key=is_hub_key)
    values.setdefault("data_dir", ServeConfig.model_fields["data_dir"].get_default())
    for key in _HERE:
        written = values.get(key)
        if isinstance(written, str) and "://" not in written and key not in bad:
            values[key] = str((Path.cwd() / Path(written).expanduser()).resolve())


def _problems(values: dict[str, Any], bad: set[str]) -> Iterator[Problem]:
    for path, section in _rewards(values):
        yield from _reward_problems(dotted(path), section, bad)
    yield from _host_problems(values, bad)
    if "data_dir" not in bad:
        yield from _folder_problems("data_dir", Path(values["data_dir"]))


def _reward_problems(prefix: str, section: dict[str, Any], bad: set[str]) -> Iterator[Problem]:
    for name in OF_A_RUN:
        if name in section:
            yield Problem(
                key=f"{prefix}.{name}",
                text="makes one reward of several scores, which only a run does; remove it",
            )
    paths = {f"reward.{name}": str(section[name]) for name in ("path", "base") if isinstance(section.get(name), str)}
    inner_bad = {key.removeprefix(f"{prefix}.") for key in bad if key.startswith(f"{prefix}.")}
    for problem in reward_problems(
        {"reward": section}, paths, {f"reward.{key}" for key in inner_bad} | {"reward.weights"}, None
    ):
        yield Problem(key=f"{prefix}{problem.key.removeprefix('reward')}", text=problem.text)
    device = section.get("device")
    if isinstance(device, str) and f"{prefix}.device" not in bad:
        yield from device_problem(f"{prefix}.device", device)


def _host_problems(values: dict[str, Any], bad: set[str]) -> Iterator[Problem]:
    host = values.get("host")
    if isinstance(host, str) and "host" not in bad and not host.strip():
        yield Problem(key="host", text="is empty; give an address of this machine, such as 127.0.0.1")
    elif host in _ANY and not values.get("allowed_hosts") and not bad & {"host", "allowed_hosts"}:
        yield Problem(
            key="host",
            text=f"{host} listens on every address of this machine; set allowed_hosts to the names and addresses that "
            "callers use, for requests to others are refused",
        )


def _folder_problems(key: str, folder: Path) -> Iterator[Problem]:
    existing = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    if not existing.is_dir():
        yield Problem(key=key, text=f"{existing} is a file; give a folder")
    elif not os.access(existing, os.W_OK | os.X_OK):
        yield Problem(key=key, text=f"{existing} cannot be written; choose another folder or change its permissions")
