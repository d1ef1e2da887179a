"""The run directory: the truth about a run. Whatever is not in it did not happen.

    config.yaml          the resolved configuration
    reward_model.json    name, revision, files with hashes, dimensions and own scale of what it is scored with
    calibration.json     mean and deviation of each reward dimension on the initial policy, frozen
    groups/000007/       one small file per group of batch 7: its outcome. u000007-p003.safetensors holds the pair's
                         latents, u000007-p003.json (written last) everything else
    weights/000007/      LoRA of policy version 7, as diffusers loads it
    checkpoints/000007/  learner state after seven updates; manifest.json, written last, makes it a commit
    metrics.jsonl        one line per update; lines above the newest commit are cut when the run resumes
    samples/ test.json validation.jsonl report.html lora/

Every file is written beside its place and renamed into it, so a reader never sees half of one. Commits are also
flushed to the disk; group files are not, since a lost one is drawn again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from cluster.config import RunConfig
from policies.errors import InputError

MANIFEST = "manifest.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit:
    """A checkpoint whose manifest is complete: the state after `update` updates."""

    update: int  # number of updates done, also the policy version
    position: int  # of the learner's next command
    reference_version: int
    weights_hash: str
    folder: Path


def write_atomic(path: Path, data: bytes, *, flush: bool = False) -> None:
    """Writes a file so that a reader, or a crash, sees the old content or the new, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with temporary.open("wb") as file:
        file.write(data)
        if flush:
            file.flush()
            os.fsync(file.fileno())
    os.replace(temporary, path)


def write_json(path: Path, value: Any, *, flush: bool = False) -> None:
    """Writes strict JSON (no NaN) atomically."""
    write_atomic(path, (json.dumps(value, indent=1, allow_nan=False) + "\n").encode(), flush=flush)


def sha256(path: Path) -> str:
    """Hex digest of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def config_digest(config: RunConfig) -> str:
    """Identity of a run's configuration; where the run lies is not part of it."""
    content = config.model_dump(mode="json", exclude={"output_dir", "run_id"})
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


class RunDirectory:
    """Reads and writes one run's files."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.groups = path / "groups"
        self.weights = path / "weights"
        self.checkpoints = path / "checkpoints"
        self.samples = path / "samples"
        self.metrics = path / "metrics.jsonl"

    # -- the run -----------------------------------------------------------------------------------------------

    @property
    def exists(self) -> bool:
        return (self.path / "config.yaml").is_file()

    def create(self, config: RunConfig) -> None:
        """Makes the directory with its configuration. Refuses one that holds another run or other files."""
        if self.exists:
            self.check_config(config)
            return
        if self.path.exists() and (not self.path.is_dir() or any(self.path.iterdir())):
            raise InputError(f"run directory {self.path} exists and is not a run; choose another run_id or output_dir")
        parent = self.path.parent
        if (parent / "config.yaml").is_file():
            raise InputError(f"output_dir {parent} is itself the directory of a run; name the folder above it")
        text = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
        write_atomic(self.path / "config.yaml", text.encode(), flush=True)

    def remove(self) -> None:
        """Deletes the run, and its parent when nothing else lies there."""
        shutil.rmtree(self.path, ignore_errors=True)
        with contextlib.suppress(OSError):
            self.path.parent.rmdir()

    def weights_hash(self, version: int) -> str:
        """The hash that a published version's manifest names."""
        manifest = json.loads((self.weights / f"{version:06d}" / MANIFEST).read_bytes())
        return str(manifest["hash"])

    def read_config(self) -> RunConfig:
        """The configuration that the run was created with."""
        file = self.path / "config.yaml"
        if not file.is_file():
            raise InputError(f"{self.path} is not a run directory: it has no config.yaml")
        return RunConfig.model_validate_json(json.dumps(yaml.safe_load(file.read_text())))

    def check_config(self, config: RunConfig) -> None:
        """Raises InputError naming the keys that differ from the run's own configuration."""
        changed = differing_keys(self.read_config(), config)
        if changed:
            raise InputError(
                f"{self.path} belongs to a run with another configuration; it differs in {', '.join(changed)}. "
                "Choose another run_id or output_dir, or resume the run as it is"
            )

    # -- groups ------------------------------------------------------------------------------------------------

    def group_file(self, group_id: str) -> Path:
        """Where a group's outcome lies; the batch is part of the id (u<batch>-p<slot>)."""
        return self.groups / group_id[1:].split("-", 1)[0] / f"{group_id}.json"

    def latents_file(self, group_id: str) -> Path:
        """Where the latents of a group's pair lie."""
        return self.group_file(group_id).with_suffix(".safetensors")

    def read_group(self, group_id: str) -> dict[str, Any] | None:
        """A recorded outcome, or None when the group is unfinished or its files are damaged: it is then drawn again."""
        try:
            record: dict[str, Any] = json.loads(self.group_file(group_id).read_bytes())
            if record["latents_sha256"] and sha256(self.latents_file(group_id)) != record["latents_sha256"]:
                return None
        except (FileNotFoundError, ValueError, KeyError):
            return None
        return record

    def prune_latents(self, *, before_batch: int) -> None:
        """Deletes the latents of batches whose commit is long past; their outcomes stay."""
        for folder in self.groups.glob("[0-9]*"):
            if int(folder.name) < before_batch:
                for file in folder.glob("*.safetensors"):
                    file.unlink(missing_ok=True)

    # -- metrics -----------------------------------------------------------------------------------------------

    def append_metrics(self, line: Mapping[str, Any]) -> None:
        """Adds one update's line."""
        with self.metrics.open("a") as file:
            file.write(json.dumps(line, allow_nan=False) + "\n")

    def read_metrics(self) -> Iterator[dict[str, Any]]:
        """The complete lines; a torn last line of a crashed run is left out."""
        if self.metrics.is_file():
            for line in self.metrics.read_text().splitlines(keepends=True):
                if line.endswith("\n"):
                    yield json.loads(line)

    def cut_metrics(self, *, updates: int) -> None:
        """Keeps the lines of the first `updates` updates."""
        kept = [json.dumps(line) + "\n" for line in self.read_metrics() if line["update"] < updates]
        write_atomic(self.metrics, "".join(kept).encode())

    # -- commits -----------------------------------------------------------------------------------------------

    def checkpoint_folder(self, update: int) -> Path:
        return self.checkpoints / f"{update:06d}"

    def commit(
        self,
        *,
        update: int,
        position: int,
        reference_version: int,
        weights_hash: str,
        files: Mapping[str, str],
        group_ids: list[str],
    ) -> Commit:
        """Makes a checkpoint a commit by writing its manifest, after everything it names is on the disk."""
        folder = self.checkpoint_folder(update)
        for name in files:
            _flush(folder / name)
        write_json(
            folder / MANIFEST,
            {
                "update": update,
                "position": position,
                "policy_version": update,
                "reference_version": reference_version,
                "weights_hash": weights_hash,
                "files": dict(files),
                "groups": group_ids,
            },
            flush=True,
        )
        return Commit(
            update=update,
            position=position,
            reference_version=reference_version,
            weights_hash=weights_hash,
            folder=folder,
        )

    def newest_commit(self) -> Commit | None:
        """The commit that a resumed run starts from. One whose files do not match their hashes does not count."""
        found = (self._read_commit(folder) for folder in sorted(self.checkpoints.glob("[0-9]*"), reverse=True))
        return next((commit for commit in found if commit is not None), None)

    def _read_commit(self, folder: Path) -> Commit | None:
        try:
            manifest = json.loads((folder / MANIFEST).read_bytes())
            if any(sha256(folder / name) != digest for name, digest in manifest["files"].items()):
                return None
        except (FileNotFoundError, ValueError, KeyError):
            return None
        return Commit(
            update=manifest["update"],
            position=manifest["position"],
            reference_version=manifest["reference_version"],
            weights_hash=manifest["weights_hash"],
            folder=folder,
        )

    def void_after(self, update: int) -> None:
        """Removes what a crashed run left above its newest commit: checkpoints without a manifest, weights and lines.

        Finished groups stay: they are used again when the weights they were drawn from come out the same.
        """
        for folder in self.checkpoints.glob("*"):
            if not folder.name.isdigit() or int(folder.name) > update or not (folder / MANIFEST).is_file():
                shutil.rmtree(folder, ignore_errors=True)
        for folder in self.weights.glob("*"):
            if not folder.name.isdigit() or int(folder.name) > update:
                shutil.rmtree(folder, ignore_errors=True)
        self.cut_metrics(updates=update)

    def prune_commits(self, *, keep_last: int, keep: set[int]) -> None:
        """Deletes older commits and the weights of versions that nobody will ask for again."""
        folders = sorted((f for f in self.checkpoints.glob("[0-9]*") if (f / MANIFEST).is_file()), reverse=True)
        kept = {int(folder.name) for folder in folders[:keep_last]} | keep
        for folder in folders:
            if int(folder.name) not in kept:
                (folder / MANIFEST).unlink(missing_ok=True)  # first, so that no half-deleted commit counts
                shutil.rmtree(folder, ignore_errors=True)
        newest = max(kept, default=0)
        for folder in self.weights.glob("[0-9]*"):
            if int(folder.name) < newest and int(folder.name) not in kept and int(folder.name) != 0:
                shutil.rmtree(folder, ignore_errors=True)


def differing_keys(one: RunConfig, other: RunConfig) -> list[str]:
    """Dotted keys in which two configurations differ, where the run lies apart."""
    skip = {"output_dir", "run_id"}
    flat_one = dict(_flatten(one.model_dump(mode="json", exclude=skip)))
    flat_other = dict(_flatten(other.model_dump(mode="json", exclude=skip)))
    return sorted(key for key in flat_one.keys() | flat_other.keys() if flat_one.get(key) != flat_other.get(key))


def _flatten(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _flatten(inner, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix, value


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
