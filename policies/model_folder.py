"""A model folder in diffusers layout, on disk or from the Hugging Face hub, checked before anything of it is loaded.

Nothing executable is loaded: weights come from safetensors only, classes from fixed lists, never from the folder.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError
from safetensors import SafetensorError, safe_open

from policies.errors import InputError

_INDEX = "model_index.json"
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_HUB_FILES = ("*.json", "*.safetensors", "*.model", "*.txt")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFolder:
    """A pipeline's folder: `model_index.json` and one folder per component."""

    path: Path
    source: str  # the path or hub id that the user gave
    index: dict[str, Any]

    @property
    def pipeline_class(self) -> str:
        """Name of the diffusers pipeline that the folder was saved from."""
        return str(self.index["_class_name"])

    def class_of(self, component: str, *, allowed: Sequence[str]) -> str:
        """Class name of a component.

        Raises:
            InputError: the component is missing or of a class that is not allowed here.
        """
        entry = self.index.get(component)
        if not isinstance(entry, list) or len(entry) != 2 or entry[1] is None:
            raise InputError(f"{self.source}: {_INDEX} names no {component}; it must have one of {', '.join(allowed)}")
        name = str(entry[1])
        if name not in allowed:
            raise InputError(f"{self.source}: {component} is a {name}; supported: {', '.join(allowed)}")
        return name

    def component(self, name: str) -> Path:
        """Folder of a component that has no weights (noise scheduler, tokenizer).

        Raises:
            InputError: it is missing.
        """
        folder = self.path / name
        if not folder.is_dir():
            raise InputError(f"{self.source}: the folder '{name}' is missing; is this a whole pipeline folder?")
        return folder

    def weights(self, name: str) -> Path:
        """Folder of a component with weights, all of them readable safetensors.

        Raises:
            InputError: it is missing, has no safetensors (but perhaps a pickle), or a damaged or missing file.
        """
        folder = self.component(name)
        files = sorted(folder.glob("*.safetensors"))
        pickles = sorted(file.name for file in folder.iterdir() if file.suffix in _PICKLES)
        if not files and pickles:
            raise InputError(
                f"{folder}: {pickles[0]} is a pickle, which can run code when loaded and is not read here; "
                "convert it to safetensors"
            )
        if not files:
            raise InputError(f"{folder}: there are no weights (*.safetensors)")
        for file in files:
            check_safetensors(file)
        for index in folder.glob("*.safetensors.index.json"):
            for shard in sorted(set(read_json(index).get("weight_map", {}).values())):
                if not (folder / shard).is_file():
                    raise InputError(f"{folder}: {index.name} names {shard}, which is missing; copy it again")
        return folder


def check_safetensors(file: Path) -> None:
    """Raises InputError unless the file is safetensors from end to end; a renamed pickle is not."""
    try:
        with safe_open(file, framework="pt"):
            pass
    except (SafetensorError, OSError) as error:
        raise InputError(f"{file} is not a readable safetensors file ({error}); save or copy it again") from error


def read_json(file: Path) -> dict[str, Any]:
    """Reads a JSON object; InputError when it is none."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{file} cannot be read as JSON: {error}") from error
    if not isinstance(content, dict):
        raise InputError(f"{file} holds a JSON {type(content).__name__}, expected an object")
    return content


def open_model_folder(path: str, *, revision: str | None = None) -> ModelFolder:
    """Opens a folder or, when `path` is no folder but reads like a hub id (`owner/name`), downloads it.

    Raises:
        InputError: no such folder or hub repository, or no pipeline in it.
    """
    folder = Path(path).expanduser()
    if not folder.is_dir():
        if not _HUB_ID.fullmatch(path) or folder.parent.is_dir() or folder.exists():
            raise InputError(f"policy.path: '{path}' is not a folder, nor a hub id such as owner/name")
        folder = _download(path, revision)
    if not (folder / _INDEX).is_file():
        raise InputError(f"policy.path: '{path}' has no {_INDEX}; it must be a pipeline folder in diffusers layout")
    index = read_json(folder / _INDEX)
    if "_class_name" not in index:
        raise InputError(f"policy.path: {_INDEX} of '{path}' has no _class_name; it must name a diffusers pipeline")
    return ModelFolder(path=folder, source=path, index=index)


def _download(hub_id: str, revision: str | None) -> Path:
    try:
        return Path(
            snapshot_download(hub_id, revision=revision, allow_patterns=[f"*/{glob}" for glob in _HUB_FILES] + [_INDEX])
        )
    except (HfHubHTTPError, HFValidationError, OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(
            f"policy.path: there is no folder '{hub_id}', and the hub does not give a repository of that name "
            f"(revision {revision or 'main'}): {reason}"
        ) from error
