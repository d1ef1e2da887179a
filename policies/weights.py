"""Versions of the policy's weights: immutable, numbered by the updates in them, named by a hash of every byte.

Whoever samples asks a `WeightSource` for the version that its request names and records the hash it really got.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from policies.errors import WeightsMismatchError
from policies.lora import LORA_FILE
from policies.policy import VideoPolicy

_MANIFEST = "manifest.json"
_NEWEST_KEPT = 2  # in memory: the version just published, and the one that a request under way may still name


def weights_hash(tensors: Mapping[str, Tensor]) -> str:
    """sha256, as hex, over names in sorted order, shapes, types and bytes. Equal exactly when the weights are."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name}\0{tuple(tensor.shape)}\0{tensor.dtype}\0".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


class WeightSource(Protocol):
    """Where weights of a version come from."""

    def read(self, version: int) -> tuple[dict[str, Tensor], str]:
        """The tensors of a version, as `VideoPolicy.load` takes them, and their hash. The caller does not change them.

        Raises:
            WeightsMismatchError: there is no such version, or it is not what its manifest says.
        """
        ...


class MemoryWeights:
    """Weights of one process. Keeps version 0, from which offline pairs are drawn, and the newest two."""

    def __init__(self) -> None:
        self._versions: dict[int, tuple[dict[str, Tensor], str]] = {}

    def publish(self, version: int, tensors: Mapping[str, Tensor]) -> str:
        """Keeps a copy under a version and returns its hash. Newer versions, of an abandoned attempt, are dropped."""
        copies = {name: tensor.detach().clone() for name, tensor in tensors.items()}
        older = {number: kept for number, kept in self._versions.items() if number < version}
        keep = {0, *sorted(older)[len(older) - _NEWEST_KEPT + 1 :]}
        self._versions = {number: kept for number, kept in older.items() if number in keep}
        self._versions[version] = (copies, weights_hash(copies))
        return self._versions[version][1]

    def read(self, version: int) -> tuple[dict[str, Tensor], str]:
        if version not in self._versions:
            raise WeightsMismatchError(f"version {version} is not in memory; there are {sorted(self._versions)}")
        return self._versions[version]


class WeightDirectory:
    """Weights on shared storage, one folder per version: the LoRA as diffusers reads it, and its manifest.

    A folder appears whole, by a rename, and is verified byte by byte when read; so nothing is flushed to disk by force:
    what a power cut leaves half written is noticed, and redone from the last commit.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def folder(self, version: int) -> Path:
        """Where a version lies or would lie."""
        return self.root / f"{version:06d}"

    def publish(self, version: int, policy: VideoPolicy, which: str, metadata: Mapping[str, str] | None = None) -> str:
        """Writes a weight set as a version and returns its hash.

        The same weights again change nothing; other weights (an update redone after a crash) replace the version.
        """
        name = weights_hash(policy.export(which))
        if self._is_published(version, name):
            return name
        self.root.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f".{version:06d}-", dir=self.root))
        try:
            folder.chmod(0o755)  # mkdtemp's own is for the owner alone; other processes read this
            policy.save_lora(folder, which, metadata={**(metadata or {}), "policy_version": str(version)})
            file = folder / LORA_FILE
            files = {LORA_FILE: {"sha256": _file_hash(file), "bytes": file.stat().st_size}}
            manifest = {"version": version, "hash": name, "files": files}
            (folder / _MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n")
            self.remove(version)
            folder.rename(self.folder(version))
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        return name

    def read(self, version: int) -> tuple[dict[str, Tensor], str]:
        manifest = self._manifest(version)
        for name, expected in manifest["files"].items():
            file = self.folder(version) / name
            if not file.is_file() or file.stat().st_size != expected["bytes"] or _file_hash(file) != expected["sha256"]:
                raise WeightsMismatchError(f"{file} is not the file that its manifest names; remove the version")
        try:
            tensors: dict[str, Tensor] = load_file(self.folder(version) / LORA_FILE)
        except (SafetensorError, OSError) as error:
            raise WeightsMismatchError(f"{self.folder(version) / LORA_FILE} cannot be read: {error}") from error
        if (found := weights_hash(tensors)) != manifest["hash"]:
            raise WeightsMismatchError(
                f"{self.folder(version)} holds weights {found[:12]}, its manifest names {manifest['hash'][:12]}"
            )
        return tensors, found

    def versions(self) -> list[int]:
        """Complete versions, oldest first."""
        if not self.root.is_dir():
            return []
        names = [entry.name for entry in self.root.iterdir() if entry.name.isdigit() and (entry / _MANIFEST).is_file()]
        return sorted(int(name) for name in names)

    def remove(self, version: int) -> None:
        """Removes a version, if there is one: first from sight, by a rename, then from disk."""
        folder = self.folder(version)
        if folder.exists():
            grave = Path(tempfile.mkdtemp(prefix=".removed-", dir=self.root))
            os.rename(folder, grave / folder.name)
            shutil.rmtree(grave, ignore_errors=True)

    def _is_published(self, version: int, name: str) -> bool:
        try:
            return self.read(version)[1] == name
        except WeightsMismatchError:
            return False

    def _manifest(self, version: int) -> dict[str, Any]:
        file = self.folder(version) / _MANIFEST
        try:
            manifest = json.loads(file.read_text())
            complete = manifest["version"] == version and LORA_FILE in manifest["files"] and "hash" in manifest
        except FileNotFoundError:
            raise WeightsMismatchError(
                f"{self.root} has no version {version}; there are {self.versions() or 'none'}"
            ) from None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise WeightsMismatchError(f"{file} cannot be read: {error}") from error
        if not complete:
            raise WeightsMismatchError(f"{file} is not the manifest of version {version}")
        return dict(manifest)


def _file_hash(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
