"""Fills a store from run directories: after it was lost, or when runs were made without one."""

from __future__ import annotations

import json
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cluster.errors import LeaseLostError
from cluster.log_sender import retell
from cluster.run_directory import RunDirectory, config_digest
from cluster.run_facts import samples_of, validation_of
from cluster.store.run_items import Item, Told
from cluster.store.run_record import EndState, Run
from cluster.store.runs import Origin
from cluster.store.store import Store
from policies.errors import InputError, OnlineVPOError


@dataclass(frozen=True, slots=True, kw_only=True)
class Indexed:
    """One directory: how many updates were told of, or why it was left out."""

    run_dir: Path
    updates: int = 0
    refusal: str | None = None


async def reindex(store: Store, root: Path, *, owner: str = "local") -> list[Indexed]:
    """Tells the store of every run in or below a folder, again if it knew of it. A run may go on meanwhile.

    Raises:
        StoreUnavailableError: the store is away; what was done is done.
    """
    return [await reindex_run(store, run_dir, owner=owner) for run_dir in run_directories(root)]


async def reindex_run(store: Store, run_dir: Path, *, owner: str = "local") -> Indexed:
    """Tells the store of one run. A writer that is telling of it notices, and goes on from where it was."""
    directory = RunDirectory(run_dir.absolute())
    try:
        origin = _origin(directory, owner)
        known = await store.runs.get(origin.run_id)
        _refuse_another(known, directory)
        token = uuid.uuid4().hex
        # From here on nobody else writes, so that whatever was told before is in the files by now.
        await store.runs.begin(origin, token=token, first_update=0, is_rewrite=True)
        await store.runs.forget_earlier_attempts(origin.run_id)
        updates = await retell(store, directory, token, 0, sys.maxsize)
        items = [*_validations(directory), *samples_of(directory)]
        told = [Told(updates + number, item) for number, item in enumerate(items, start=1)]
        run = await store.runs.tell(origin.run_id, token, told)
        if run.state != "running" or run.is_silent(await store.now()):
            state, at = _ending(directory)
            await store.runs.end(origin.run_id, token, state, at=at)
    except LeaseLostError as error:
        return Indexed(run_dir=run_dir, refusal=f"{error}; it goes on")
    except (InputError, OSError, ValueError) as error:
        if isinstance(error, OnlineVPOError) and not isinstance(error, InputError):
            raise
        return Indexed(run_dir=run_dir, refusal=str(error))
    return Indexed(run_dir=run_dir, updates=updates)


def run_directories(root: Path) -> Iterator[Path]:
    """The run directories in a folder, or the folder itself, or those one level further down."""
    if RunDirectory(root).exists:
        yield root
        return
    for pattern in ("*/config.yaml", "*/*/config.yaml"):
        yield from sorted(file.parent for file in root.glob(pattern))


def _origin(directory: RunDirectory, owner: str) -> Origin:
    config = directory.read_config()
    return Origin(
        run_id=directory.path.name,
        owner=owner,
        run_dir=str(directory.path),
        config_digest=config_digest(config),
        updates=config.updates,
        created_at=(directory.path / "config.yaml").stat().st_mtime,
    )


def _refuse_another(known: Run | None, directory: RunDirectory) -> None:
    if known is None or known.run_dir in (None, str(directory.path)):
        return
    raise InputError(f"the run id {known.id!r} is taken by the run in {known.run_dir}; rename one of the two folders")


def _validations(directory: RunDirectory) -> list[Item]:
    try:
        lines = (directory.path / "validation.jsonl").read_text().splitlines()
        return [validation_of(json.loads(line)) for line in lines]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def _ending(directory: RunDirectory) -> tuple[EndState, float | None]:
    """What result.json says; a run without one was killed, or goes on and will say so."""
    file = directory.path / "result.json"
    try:
        ended = json.loads(file.read_bytes())["ended"]
        return ("completed" if ended in ("completed", "early_stop") else "stopped"), file.stat().st_mtime
    except (OSError, ValueError, KeyError, TypeError):
        return "stopped", None
