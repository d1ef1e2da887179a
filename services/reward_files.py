"""What the reward sections of a configuration name: whether the folders are there and what they can judge.

Without torch: weights, tokenizers and shards are looked at when they are loaded.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import policies.shapes
from policies.errors import InputError
from policies.rewards.videoreward import template as videoreward
from policies.rewards.videoscore import template as videoscore
from policies.shapes.prompts import parse_prompt
from policies.types import VideoShape
from services.model_folder import check_weights
from services.yaml_source import Problem

BUNDLED = "shapes"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Published:
    """What is known of a published model without its weights."""

    config_file: str
    dimensions: tuple[str, ...]
    min_frames: int
    check_prompt: Callable[[str], object]  # raises InputError


_PUBLISHED = {
    "videoreward": _Published(
        config_file="model_config.json",
        dimensions=videoreward.DIMENSIONS,
        min_frames=2,
        check_prompt=lambda prompt: videoreward.template_text("detailed_special", prompt),
    ),
    "videoscore": _Published(
        config_file="config.json",
        dimensions=videoscore.DIMENSIONS,
        min_frames=1,
        check_prompt=lambda prompt: videoscore.query_text(
            prompt, reserved=(videoscore.IMAGE_TOKEN, videoscore.FRAME_BORDER_TOKEN)
        ),
    ),
}
_OTHERS = f"set reward.model to {' or '.join(_PUBLISHED)} for other videos"
BUNDLED_REWARD = Path(policies.shapes.__file__).parent / "assets" / "reward"


def reward_sections(values: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every reward model's section with its dotted key: the reward's own, then those under `also`."""
    section = values.get("reward")
    section = section if isinstance(section, dict) else {}
    yield "reward", section
    others = section.get("also")
    for index, other in enumerate(others if isinstance(others, list) else []):
        if isinstance(other, dict):
            yield f"reward.also.{index}", other


def reward_problems(
    values: dict[str, Any], paths: dict[str, str], bad: set[str], shape: VideoShape | None
) -> Iterator[Problem]:
    """Folders that are not there or hold something else, dimensions that a model does not have, sizes it cannot judge.

    Args:
        paths: the path settings by dotted key, absolute or a hub id.
        bad: keys that are already known to be wrong.
        shape: the run's; None when a part of it is known to be wrong.
    """
    for prefix, section in reward_sections(values):
        if f"{prefix}.model" in bad or f"{prefix}.path" in bad:
            continue
        path = paths.get(f"{prefix}.path")
        if section.get("model", BUNDLED) == BUNDLED:
            yield from _shapes_problems(prefix, section, path, bad, shape)
        else:
            yield from _published_problems(prefix, section, paths, bad, shape)


def check_prompt(section: dict[str, Any], prompt: str) -> None:
    """Raises InputError for a prompt that the section's reward model cannot judge."""
    model = section.get("model", BUNDLED)
    if model == BUNDLED:
        parse_prompt(prompt)
    elif model in _PUBLISHED:
        _PUBLISHED[model].check_prompt(prompt)


def _shapes_problems(
    prefix: str, section: dict[str, Any], path: str | None, bad: set[str], shape: VideoShape | None
) -> Iterator[Problem]:
    folder = Path(path) if path is not None else BUNDLED_REWARD
    try:
        _check_shapes_folder(folder)
        config = json.loads((folder / "config.json").read_bytes())
        dimensions = [str(name) for name in config["dimensions"]]
        expected = VideoShape(num_frames=config["num_frames"], height=config["size"], width=config["size"])
    except InputError as error:
        yield Problem(key=f"{prefix}.path", text=str(error))
        return
    except (OSError, ValueError, KeyError, TypeError):
        return  # said when it is loaded
    if f"{prefix}.weights" not in bad:
        yield from _unknown_dimensions(prefix, section, dimensions)
    if shape is not None and shape != expected:
        yield Problem(key="sampling", text=f"{shape}: the reward model {folder.name} judges {expected} only; {_OTHERS}")


def _unknown_dimensions(prefix: str, section: dict[str, Any], dimensions: list[str]) -> Iterator[Problem]:
    for name in section.get("weights") or {}:
        if name not in dimensions:
            yield Problem(key=f"{prefix}.weights.{name}", text=f"unknown dimension; there are {', '.join(dimensions)}")


def _check_shapes_folder(folder: Path) -> None:
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; give the folder of a reward model, or null for the bundled one")
    if not (folder / "config.json").is_file():
        raise InputError(f"{folder}: has no config.json; give the folder of a reward model")
    check_weights(folder)


def _published_problems(
    prefix: str, section: dict[str, Any], paths: dict[str, str], bad: set[str], shape: VideoShape | None
) -> Iterator[Problem]:
    """Folders that are not those of such a model, dimensions that it does not have, videos too short for it."""
    model = str(section["model"])
    known = _PUBLISHED[model]
    for key, name in ((f"{prefix}.path", known.config_file), (f"{prefix}.base", "config.json")):
        folder = Path(paths.get(key, ""))
        if not folder.is_absolute():
            continue  # a hub id, or none
        if not folder.is_dir():
            yield Problem(key=key, text=f"{folder}: no such folder; give the model's folder or its hub id, owner/name")
        elif not (folder / name).is_file():
            yield Problem(key=key, text=f"{folder}: has no {name}; give a folder in the published layout of {model}")
    if f"{prefix}.weights" not in bad:
        yield from _unknown_dimensions(prefix, section, list(known.dimensions))
    if shape is not None and shape.num_frames < known.min_frames:
        yield Problem(key="sampling", text=f"{shape}: the reward model {model} needs {known.min_frames} or more")
