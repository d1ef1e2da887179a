"""What a configuration says about the file system: which paths it means, and whether what it needs is there."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import policies.shapes
from policies.config import SamplingConfig
from policies.errors import InputError
from policies.prompts import SHAPES_PREFIX, load_prompts
from policies.shapes.prompts import parse_prompt
from policies.types import VideoShape
from services.model_folder import check_policy_folder, check_size, check_weights, unmatched_targets
from services.yaml_source import Problem

BUNDLED = "shapes"
BUNDLED_REWARD = Path(policies.shapes.__file__).parent / "assets" / "reward"
BUNDLED_POLICY = Path(policies.shapes.__file__).parent / "assets" / "policy"
PATH_KEYS = ("policy.path", "reward.path", "prompts.train", "prompts.validation", "prompts.test", "output_dir")
_DEVICE = re.compile(r"(cpu|mps|(cuda|xpu)(:[0-9]+)?)\Z")
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+\Z")

Values: TypeAlias = dict[str, Any]
Resolve: TypeAlias = Callable[[str, str], Path]  # (dotted key, path as written) -> absolute path


def get(values: Values, key: str) -> Any:
    """The value at a dotted key; None where there is none."""
    for part in key.split("."):
        values = values.get(part) if isinstance(values, dict) else None  # type: ignore[assignment]
    return values


def resolved(key: str, written: str, resolve: Resolve) -> str:
    """A path setting as the run will use it: absolute, unless it names something bundled or on the hub."""
    is_bundled = written.startswith(SHAPES_PREFIX) if key.startswith("prompts.") else written == BUNDLED
    if is_bundled or (key == "policy.path" and _is_hub_id(written, resolve)):
        return written
    return str(resolve(key, written))


def file_problems(values: Values, bad: set[str], resolve: Resolve) -> Iterator[Problem]:
    """Checks what the settings name; those in `bad` are already known to be wrong.

    Args:
        values: the settings as written, without the wrong ones.
    """
    usable = {key: get(values, key) for key in PATH_KEYS if key not in bad}
    paths = {key: resolved(key, value, resolve) for key, value in usable.items() if isinstance(value, str)}
    yield from _prompt_problems(values, paths)
    yield from _policy_problems(values, paths, bad)
    yield from _reward_problems(values, paths.get("reward.path"), bad)
    yield from _problem("output_dir", lambda: _check_output_dir(str(usable.get("output_dir") or "runs"), resolve))
    device = get(values, "policy.device")
    if isinstance(device, str) and "policy.device" not in bad and not _DEVICE.match(device):
        yield Problem(key="policy.device", text=f"no device {device!r}; use cpu, cuda, cuda:1, mps or xpu")


def _problem(key: str, check: Callable[[], object]) -> Iterator[Problem]:
    try:
        check()
    except InputError as error:
        yield Problem(key=key, text=str(error))


def _prompt_problems(values: Values, paths: dict[str, str]) -> Iterator[Problem]:
    """Prompt files, and prompts that only the bundled world can judge."""
    is_scored_here = get(values, "reward.model") in (None, BUNDLED)
    has_truth_here = get(values, "evaluation.ground_truth") == BUNDLED
    for key, source in paths.items():
        if not key.startswith("prompts."):
            continue
        try:
            prompts = load_prompts(source)
        except InputError as error:
            yield Problem(key=key, text=str(error))
            continue
        try:
            if is_scored_here or (has_truth_here and key == "prompts.test"):
                for prompt in prompts:
                    parse_prompt(prompt.text)
        except InputError as error:
            yield Problem(key=key, text=f"{source}: the bundled reward cannot judge it: {error}")


def _policy_problems(values: Values, paths: dict[str, str], bad: set[str]) -> Iterator[Problem]:
    path = paths.get("policy.path")
    if path is None or (path != BUNDLED and not Path(path).is_absolute()):
        return  # a hub id: known when it is loaded
    folder = Path(path) if path != BUNDLED else BUNDLED_POLICY
    try:
        check_policy_folder(folder)
    except InputError as error:
        yield Problem(key="policy.path", text=str(error))
        return
    targets = get(values, "policy.lora.targets")
    if isinstance(targets, list) and not bad & {"policy.lora", "policy.lora.targets"}:
        for target in unmatched_targets(folder, targets):
            yield Problem(key="policy.lora.targets", text=f"{target!r} matches no layer of {folder / 'transformer'}")
        if not targets:
            yield Problem(key="policy.lora.targets", text="names nothing to train; null takes the family's default")
    yield from _size_problems(values, paths, folder, bad)


def _size_problems(values: Values, paths: dict[str, str], folder: Path, bad: set[str]) -> Iterator[Problem]:
    shape = _default_shape(values, bad)
    if shape is not None:
        yield from _problem("sampling", lambda: check_size(folder, shape))
    for key, source in paths.items():
        if key.startswith("prompts."):
            yield from _problem(key, lambda source=source: _check_prompt_sizes(source, folder))  # type: ignore[misc]


def _default_shape(values: Values, bad: set[str]) -> VideoShape | None:
    """The run's shape; None when a part of it is known to be wrong."""
    names = ("num_frames", "height", "width")
    if bad & {"sampling", *(f"sampling.{name}" for name in names)}:
        return None
    section = get(values, "sampling") or {}
    return VideoShape(**{name: section.get(name, SamplingConfig.model_fields[name].get_default()) for name in names})


def _check_prompt_sizes(source: str, folder: Path) -> None:
    try:
        prompts = load_prompts(source)
    except InputError:
        return  # said by the check of prompts
    for prompt in prompts:
        if prompt.shape is not None:
            try:
                check_size(folder, prompt.shape)
            except InputError as error:
                raise InputError(f"prompt {prompt.id!r} of {source}: {error}") from None


def _reward_problems(values: Values, path: str | None, bad: set[str]) -> Iterator[Problem]:
    """The reward model's folder, and what its config says it can judge."""
    if "reward.path" in bad:
        return
    folder = Path(path) if path is not None else BUNDLED_REWARD
    yield from _problem("reward.path", lambda: _check_reward_folder(folder))
    try:
        config = json.loads((folder / "config.json").read_bytes())
        dimensions = [str(name) for name in config["dimensions"]]
        expected = VideoShape(num_frames=config["num_frames"], height=config["size"], width=config["size"])
    except (OSError, ValueError, KeyError, TypeError):
        return  # said above, or when it is loaded
    for name in get(values, "reward.weights") or {} if "reward.weights" not in bad else {}:
        if name not in dimensions:
            yield Problem(key=f"reward.weights.{name}", text=f"unknown dimension; there are {', '.join(dimensions)}")
    shape = _default_shape(values, bad)
    if shape is not None and shape != expected:
        yield Problem(key="sampling", text=f"{shape}: the reward model {folder.name} judges {expected} only")


def _check_reward_folder(folder: Path) -> None:
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; give the folder of a reward model, or null for the bundled one")
    if not (folder / "config.json").is_file():
        raise InputError(f"{folder}: has no config.json; give the folder of a reward model")
    check_weights(folder)


def _check_output_dir(written: str, resolve: Resolve) -> None:
    if "://" in written:
        raise InputError(f"{written} is a URL; give a folder, mounted if it is shared")
    folder = resolve("output_dir", written)
    if (folder / "config.yaml").is_file() and any((folder / name).exists() for name in ("groups", "metrics.jsonl")):
        raise InputError(f"{folder} is itself the directory of a run; name the folder above it")
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    if not existing.is_dir():
        raise InputError(f"{existing} is a file; runs need a folder")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise InputError(f"{existing} cannot be written; choose another folder or change its permissions")


def _is_hub_id(written: str, resolve: Resolve) -> bool:
    """owner/name, unless a folder of the first part's name says that a path was meant."""
    return _HUB_ID.match(written) is not None and not resolve("policy.path", written.split("/")[0]).is_dir()
