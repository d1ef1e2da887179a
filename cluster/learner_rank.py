"""What each rank of the learner does: restore, publish, then command after command from the mailbox.

Runs inside a Ray Train worker. Its own errors end the run through the mailbox; the loss of another rank or of the
process itself is Ray Train's to repair, by rebuilding the group from the newest commit.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import ray
import ray.train
import torch
from ray.actor import ActorHandle

from cluster.config import RunConfig
from cluster.factories import Factories, LearnerPart
from cluster.failures import LOST, describe
from cluster.groups import read_pair
from cluster.mailbox import Answer, Command
from cluster.run_directory import RunDirectory

LONG_POLL_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RankSettings:
    """What a rank is started with."""

    config: RunConfig
    run_dir: Path
    factories: Factories
    mailbox: ActorHandle


class RankLostError(RuntimeError):
    """A collective call failed: another rank is gone, so this one gives up and is rebuilt with the others."""


def train_loop(settings: Mapping[str, Any]) -> None:
    """Ray Train's entry. Returns after `stop` or after its own code raised."""
    rank = _Rank(settings["settings"])
    try:
        asyncio.run(rank.work())
    except (RankLostError, *LOST):
        raise
    except Exception as error:
        ray.get(rank.mailbox.fail.remote(rank.rank, describe(error)))


def all_reduce(tensor: torch.Tensor) -> None:
    """Sums over all ranks, in place."""
    try:
        torch.distributed.all_reduce(tensor)
    except RuntimeError as error:  # gloo and nccl have no class of their own for it
        raise RankLostError(f"all_reduce failed: {error}") from error


class _Rank:
    def __init__(self, settings: RankSettings) -> None:
        context = ray.train.get_context()
        self.rank, self.world_size = context.get_world_rank(), context.get_world_size()
        self.mailbox = settings.mailbox
        self._settings = settings
        self._directory = RunDirectory(settings.run_dir)

    async def work(self) -> None:
        """Builds and restores the learner, then serves the mailbox."""
        settings = self._settings
        part = settings.factories.learner(
            settings.config, settings.run_dir, self.rank, self.world_size, all_reduce if self.world_size > 1 else None
        )
        position = 0
        commit = self._directory.newest_commit()
        if commit is not None:
            part.restore(commit.folder)
            position = commit.position
        if self.rank == 0:
            part.publish()
        member = {"pid": os.getpid(), "incarnation": self._incarnation(), "position": position, **_versions(part)}
        answer: Answer | None = None
        while True:
            command = self._next(position, member, answer)
            if command["kind"] == "stop":
                return
            answer = {**await self._do(part, command), **_versions(part)}
            position += 1

    async def _do(self, part: LearnerPart, command: Command) -> dict[str, Any]:
        match command["kind"]:
            case "update":
                pairs = [read_pair(self._directory, group_id) for group_id in command["group_ids"]]
                stats = await part.update(pairs, batch_index=command["batch_index"])
                if self.rank == 0:
                    part.publish()
                return {"stats": asdict(stats)}
            case "update_reference":
                await part.update_reference()
                return {}
            case "save":
                return {"files": part.save(Path(command["folder"])) if self.rank == 0 else {}}
            case kind:
                raise ValueError(f"unknown command {kind!r}")

    def _next(self, position: int, member: Mapping[str, Any], answer: Answer | None) -> Command:
        """The command at a position, however often the mailbox restarts meanwhile."""
        give_up = None
        while True:
            try:
                command = ray.get(self.mailbox.poll.remote(self.rank, position, member, answer, LONG_POLL_S))
                if command is not None:
                    return command  # type: ignore[no-any-return]
                give_up = None
            except LOST:
                give_up = give_up or time.monotonic() + self._settings.config.deadlines.recovery_s
                if time.monotonic() > give_up:
                    raise
                time.sleep(0.05)

    def _incarnation(self) -> int:
        """A number that the ranks of this worker group share, and no earlier group had."""
        if self.world_size == 1:
            return secrets.randbits(31)
        device = ray.train.torch.get_device()
        number = torch.tensor([secrets.randbits(31) if self.rank == 0 else 0], device=device)
        all_reduce(number)
        return int(number)


def _versions(part: LearnerPart) -> dict[str, Any]:
    return {
        "policy_version": part.policy_version,
        "reference_version": part.reference_version,
        "weights_hash": part.weights_hash,
    }
