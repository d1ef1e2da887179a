"""Writes a published pickle as safetensors once: the same tensors, names and layout, which load without a pickle."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

from policies.errors import InputError
from policies.rewards.published import open_published, read_pickled_tensors
from policies.rewards.videoreward.checkpoint import newest_checkpoint
from policies.rewards.videoreward.model import FILES, REPOSITORY
from policies.rewards.videoreward.model_config import FILE


@dataclass(frozen=True, slots=True, kw_only=True)
class Converted:
    """What was written."""

    path: Path
    files: tuple[Path, ...]
    """Weights, in it."""
    tensors: int


def convert(source: str, destination: Path, *, revision: str | None = None) -> Converted:
    """Converts VideoReward's newest checkpoint, with all that is needed to load it, or a single .pth of plain tensors.

    Args:
        source: a folder or hub id in VideoReward's layout, or a .pth file.
        destination: a folder (or .safetensors file) that does not exist yet. It appears whole or not at all.
        revision: of a hub id.
    Raises:
        InputError: the source holds no pickle, cannot be read, or is more than plain tensors; or the destination
            exists.
    """
    if destination.exists() and (destination.is_file() or any(destination.iterdir())):
        raise InputError(f"{destination} exists already; name a new one, or remove it")
    partial = destination.with_name(f".{destination.name}.{os.getpid()}")
    destination.parent.mkdir(parents=True, exist_ok=True)
    try:
        if Path(source).is_file():
            names, tensors = [destination.name], _write(Path(source), partial)
        else:
            names, tensors = _convert_folder(source, partial, revision)
        os.replace(partial, destination)
    finally:
        if partial.is_dir():
            shutil.rmtree(partial)
        partial.unlink(missing_ok=True)
    files = tuple(destination / name if destination.is_dir() else destination for name in names)
    return Converted(path=destination, files=files, tensors=tensors)


def _convert_folder(source: str, partial: Path, revision: str | None) -> tuple[list[str], int]:
    model = open_published(source, setting="source", repository=REPOSITORY, revision=revision, patterns=FILES)
    config = model.file(FILE)
    checkpoint = newest_checkpoint(model)
    if not any(file.suffix == ".pth" for file in checkpoint.files):
        raise InputError(f"{checkpoint.folder.path} holds safetensors already; there is nothing to convert")
    folder = partial / checkpoint.folder.path.name
    (folder / "tokenizer").mkdir(parents=True)
    model.file(f"{folder.name}/tokenizer/tokenizer.json")
    for file in sorted((checkpoint.folder.path / "tokenizer").iterdir()):
        shutil.copyfile(file, folder / "tokenizer" / file.name)
    shutil.copyfile(config, partial / FILE)
    names, tensors = [], 0
    for file in checkpoint.files:
        written = folder / f"{file.stem}.safetensors"
        if file.suffix == ".pth":
            tensors += _write(file, written)
        else:
            shutil.copyfile(file, written)
        names.append(written.relative_to(partial).as_posix())
    return names, tensors


def _write(pickled: Path, written: Path) -> int:
    tensors: dict[str, Tensor] = {}
    memory: set[int] = set()
    for name, tensor in read_pickled_tensors(pickled).items():
        # the format has no two names for one piece of memory, as tied weights are
        tensors[name] = tensor.clone() if tensor.data_ptr() in memory else tensor
        memory.add(tensor.data_ptr())
    save_file(tensors, written, metadata={"format": "pt"})
    return len(tensors)
