"""What a configuration says about the file system: which paths it means, and whether what it needs is there."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import policies.shapes
from policies.config import SamplingConfig
from policies.errors import InputError
from policies.prompts import SHAPES_PREFIX, load_prompts
from policies.types import VideoShape
from services.config_keys import value_at
from services.model_folder import check_policy_folder, check_size, unmatched_targets
from services.reward_files import BUNDLED, check_prompt, reward_problems, reward_sections
from services.yaml_source import Problem

BUNDLED_POLICY = Path(policies.shapes.__file__).parent / "assets" / "policy"
_DEVICE = re.compile(r"(cpu|mps|(cuda|xpu)(:[0-9]+)?)\Z")
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+\Z")

Values: TypeAlias = dict[str, Any]
Resolve: TypeAlias = Callable[[str, str], Path]  # (dotted key, path as written) -> absolute path


def get(values: Values, key: str) -> Any:
    """The value at a dotted key; None where there is none."""
    return value_at(values, tuple(key.split(".")))


def path_keys(values: Values) -> list[tuple[str, bool]]:
    """The settings that name a file or folder, and whether each may be a hub id as well."""
    keys = [("policy.path", True), *((f"prompts.{name}", False) for name in ("train", "validation", "test"))]
    for prefix, section in reward_sections(values):
        is_on_hub = section.get("model", BUNDLED) != BUNDLED
        keys += [(f"{prefix}.path", is_on_hub), (f"{prefix}.base", is_on_hub)]
    return [*keys, ("output_dir", False)]


def resolved(key: str, written: str, resolve: Resolve, *, is_hub_key: bool) -> str:
    """A path setting as the run will use it: absolute, unless it names something bundled or on the hub."""
    is_bundled = written.startswith(SHAPES_PREFIX) if key.startswith("prompts.") else written == BUNDLED
    if (is_bundled and not key.startswith("reward.")) or (is_hub_key and _is_hub_id(written, resolve)):
        return written
    return str(resolve(key, written))


def file_problems(values: Values, bad: set[str], resolve: Resolve) -> Iterator[Problem]:
    """Checks what the settings name; those in `bad` are already known to be wrong.

    Args:
        values: the settings as written, without the wrong ones.
    """
    usable = {key: (get(values, key), is_hub_key) for key, is_hub_key in path_keys(values) if key not in bad}
    paths = {
        key: resolved(key, value, resolve, is_hub_key=is_hub_key)
        for key, (value, is_hub_key) in usable.items()
        if isinstance(value, str)
    }
    yield from _prompt_problems(values, paths, bad)
    yield from _policy_problems(values, paths, bad)
    yield from reward_problems(values, paths, bad, default_shape(values, bad))
    yield from _problem("output_dir", lambda: _check_output_dir(str(get(values, "output_dir") or "runs"), resolve))
    for key in ("policy.device", *(f"{prefix}.device" for prefix, _ in reward_sections(values))):
        device = get(values, key)
        if isinstance(device, str) and key not in bad:
            yield from device_problem(key, device)


def device_problem(key: str, device: str) -> Iterator[Problem]:
    """A device that is none."""
    if not _DEVICE.match(device):
        yield Problem(key=key, text=f"no device {device!r}; use cpu, cuda, cuda:1, mps or xpu")


def _problem(key: str, check: Callable[[], object]) -> Iterator[Problem]:
    try:
        check()
    except InputError as error:
        yield Problem(key=key, text=str(error))


def _prompt_problems(values: Values, paths: dict[str, str], bad: set[str]) -> Iterator[Problem]:
    """Prompt files, and prompts that a reward model or the exact scorer cannot judge."""
    sections = [section for prefix, section in reward_sections(values) if f"{prefix}.model" not in bad]
    has_truth_here = get(values, "evaluation.ground_truth") == BUNDLED
    for key, source in paths.items():
        if not key.startswith("prompts."):
            continue
        try:
            prompts = load_prompts(source)
        except InputError as error:
            yield Problem(key=key, text=str(error))
            continue
        judges = [*sections, *([{"model": BUNDLED}] if has_truth_here and key == "prompts.test" else [])]
        for section in judges:
            what = "bundled" if section.get("model", BUNDLED) == BUNDLED else section["model"]
            try:
                for prompt in prompts:
                    check_prompt(section, prompt.text)
            except InputError as error:
                yield Problem(key=key, text=f"{source}: the {what} reward cannot judge it: {error}")
                break


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
    shape = default_shape(values, bad)
    if shape is not None:
        yield from _problem("sampling", lambda: check_size(folder, shape))
    for key, source in paths.items():
        if key.startswith("prompts."):
            yield from _problem(key, lambda source=source: _check_prompt_sizes(source, folder))  # type: ignore[misc]


def default_shape(values: Values, bad: set[str]) -> VideoShape | None:
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
