"""Files of a published reward model: where they lie, and what may be read from them.

Nothing executable is loaded. Weights are safetensors; the published pickles are read as plain tensors only, after a
look at the archive around them.
"""

from __future__ import annotations

import hashlib
import re
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from policies.errors import InputError
from policies.model_folder import check_safetensors, read_json

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_LARGEST_PICKLE = 16 * 2**20
"""Bytes of the part of a .pth that names its tensors; VideoReward's has 0.3 MB."""

_WEIGHT_TYPES = (torch.float32, torch.bfloat16, torch.float16)
_SHOWN = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedFolder:
    """A folder, or the snapshot of a hub repository."""

    path: Path
    setting: str
    """The setting that named it, for errors."""
    repository: str
    """Hub id that its files can be fetched from."""
    revision: str | None
    """Commit of the hub repository; None for a folder."""

    def file(self, name: str) -> Path:
        """A file in it. Raises InputError, which says what to fetch and from where, when it is missing."""
        if not (self.path / name).is_file():
            raise InputError(f"{self.setting}: {self.path} has no {name}; {self.how_to_fetch(name)}")
        return self.path / name

    def how_to_fetch(self, name: str) -> str:
        """What to do about a missing file, as the end of a sentence."""
        return f"fetch it from {self.repository}: hf download {self.repository} {name} --local-dir {self.path}"


def open_published(
    path: str, *, setting: str, repository: str, revision: str | None = None, patterns: Sequence[str]
) -> PublishedFolder:
    """Opens a folder or, when `path` is no folder but reads like a hub id (`owner/name`), downloads it.

    With a folder `owner` here, `owner/name` means a path.

    Args:
        path: a folder or hub id. The network is used for a hub id only.
        setting: named in errors, such as `reward.path`.
        repository: hub id that the model was published under, for errors about a folder.
        revision: of a hub id.
        patterns: files that are wanted from the hub.
    Raises:
        InputError: neither a folder nor a repository that the hub gives.
    """
    folder = Path(path).expanduser()
    if folder.is_dir():
        return PublishedFolder(path=folder, setting=setting, repository=repository, revision=None)
    if not _HUB_ID.fullmatch(path) or folder.exists() or folder.parent.is_dir():
        raise InputError(
            f"{setting}: '{path}' is not a folder, nor a hub id such as {repository}; "
            f"fetch it: hf download {repository} --local-dir {path}"
        )
    try:
        snapshot = Path(snapshot_download(path, revision=revision, allow_patterns=list(patterns)))
    except (HfHubHTTPError, HFValidationError, OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(
            f"{setting}: there is no folder '{path}', and the hub does not give a repository of that name "
            f"(revision {revision or 'main'}): {reason}"
        ) from error
    return PublishedFolder(path=snapshot, setting=setting, repository=path, revision=snapshot.name)


def safetensors_files(folder: PublishedFolder, stem: str = "model") -> list[Path]:
    """The file or all shards of `<stem>.safetensors`, each readable from end to end; empty when there is none.

    Raises:
        InputError: a shard that the index names is missing, or a file is damaged.
    """
    index = folder.path / f"{stem}.safetensors.index.json"
    if index.is_file():
        names = sorted({str(name) for name in read_json(index).get("weight_map", {}).values()})
        if any(Path(name).name != name for name in names):
            raise InputError(f"{index} names files outside its folder; {folder.how_to_fetch(index.name)}")
        missing = [name for name in names if not (folder.path / name).is_file()]
        if missing or not names:
            raise InputError(
                f"{index} names {listed(missing) or 'nothing'}, which is missing; "
                f"{folder.how_to_fetch(missing[0] if missing else index.name)}"
            )
    else:
        names = [f"{stem}.safetensors"] if (folder.path / f"{stem}.safetensors").is_file() else []
    for name in names:
        check_safetensors(folder.path / name)
    return [folder.path / name for name in names]


def read_safetensors(files: Iterable[Path]) -> dict[str, Tensor]:
    """All tensors of some files, on CPU. Raises InputError when one cannot be read."""
    tensors: dict[str, Tensor] = {}
    for file in files:
        try:
            tensors |= load_file(file)
        except (SafetensorError, OSError) as error:
            raise InputError(f"{file} cannot be read ({error}); copy it again") from error
    return tensors


def read_pickled_tensors(file: Path) -> dict[str, Tensor]:
    """The tensors of a .pth that holds a flat dictionary of them, on CPU, without running anything in it.

    Raises:
        InputError: it is truncated, asks for more memory than its own size, or holds anything but dense tensors of
            floating point numbers by name.
    """
    _check_archive(file)
    try:
        content = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # torch raises many classes for a file of something else
        raise InputError(f"{file} was not loaded: {_refusal(file, error)}") from error
    if not isinstance(content, dict) or not content:
        raise InputError(f"{file} holds a {type(content).__name__}, expected tensors by name")
    for name, tensor in content.items():
        if not isinstance(name, str) or type(tensor) not in (Tensor, torch.nn.Parameter):
            raise InputError(f"{file}: {name!r} is a {type(tensor).__name__}, expected tensors by name")
        # a view that repeats its memory could ask for any amount once it is copied
        if tensor.dtype not in _WEIGHT_TYPES or tensor.layout != torch.strided or not tensor.is_contiguous():
            raise InputError(
                f"{file}: {name} is {tensor.dtype}, {tensor.layout}; expected dense floating point numbers"
            )
    return {name: tensor.detach() for name, tensor in content.items()}


def check_finite(tensors: Mapping[str, Tensor], source: Path) -> None:
    """Raises InputError when a weight is NaN or infinite."""
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise InputError(f"{source}: the weight {name} holds numbers that are not finite; the file is damaged")


def listed(names: Iterable[str]) -> str:
    """Names in sorted order for an error: all of them, or the first 20 and how many more."""
    ordered = sorted(names)
    more = f" and {len(ordered) - _SHOWN} more" if len(ordered) > _SHOWN else ""
    return ", ".join(ordered[:_SHOWN]) + more


def sha256_of(files: Mapping[str, Path]) -> dict[str, str]:
    """sha256, as hex, of each file by name."""
    digests = {}
    for name, path in sorted(files.items()):
        with path.open("rb") as file:
            digests[name] = hashlib.file_digest(file, "sha256").hexdigest()
    return digests


def _check_archive(file: Path) -> None:
    """torch.save writes a zip of uncompressed entries; anything else is refused before torch sees it."""
    try:
        with zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise InputError(f"{file} is truncated or was not written by torch.save ({error}); copy it again") from error
    stored = sum(entry.file_size for entry in entries)
    is_plain = all(entry.compress_type == zipfile.ZIP_STORED for entry in entries)
    if not is_plain or stored > file.stat().st_size or len({entry.filename for entry in entries}) != len(entries):
        raise InputError(f"{file} is not an archive as torch.save writes it; it was not loaded")
    pickle = max((entry.file_size for entry in entries if entry.filename.endswith(".pkl")), default=0)
    if pickle > _LARGEST_PICKLE:
        raise InputError(f"{file} describes its tensors in {pickle} bytes, more than {_LARGEST_PICKLE}; not loaded")


def _refusal(file: Path, error: Exception) -> str:
    try:
        names = torch.serialization.get_unsafe_globals_in_checkpoint(str(file))
    except Exception:  # it may be damaged, too
        names = []
    if names:
        return f"it wants to run {listed(names)}, and nothing in a checkpoint is run; take one of plain tensors"
    return f"it does not hold plain tensors only ({str(error).strip().splitlines()[0]})"
