"""Generators, reward server and learner as Ray processes of their own, brought up and down together."""

from __future__ import annotations

import asyncio
import secrets
from pathlib import Path
from typing import Any

import numpy as np
import ray

from cluster.config import RunConfig
from cluster.deadline import within
from cluster.factories import Factories
from cluster.generators import GeneratorPool
from cluster.learner import RayLearner
from cluster.local_ray import RaySession
from cluster.reward_server import deploy
from cluster.scorer import RayScorer
from policies.types import Handle


class SplitPlacement:
    """A `Placement` on Ray."""

    generator: GeneratorPool = None
    scorer: RayScorer = None
    learner: RayLearner = None

    def __init__(self, config: RunConfig, run_dir: Path, factories: Factories) -> None:
        self._config, self._run_dir, self._factories = config, run_dir, factories
        self._session = RaySession(config.placement, config.deadlines)

    @classmethod
    async def start(cls, config: RunConfig, run_dir: Path, *, factories: Factories) -> SplitPlacement:
        """Everything up and restored from the newest commit. Nothing is left behind if that fails."""
        placement = cls(config, run_dir, factories)
        try:
            await within(
                placement._start(), seconds=config.deadlines.start_s, waiting_for="the processes of the run to start"
            )
        except BaseException:
            await placement.close()
            raise
        return placement

    async def _start(self) -> None:
        config, factories = self._config, self._factories
        await asyncio.to_thread(self._session.open)
        name = f"onlinevpo-{secrets.token_hex(4)}"
        self.generator = GeneratorPool(config, self._run_dir, factories.generator)
        self.learner = RayLearner(
            config, self._run_dir, factories, train_dir=self._session.scratch(self._run_dir), name=name
        )
        async with asyncio.TaskGroup() as group:
            group.create_task(self.generator.start())
            group.create_task(self.learner.start())
            group.create_task(self._start_scorer(name))

    async def _start_scorer(self, app: str) -> None:
        handle = await asyncio.to_thread(deploy, self._config, self._factories.scorer, app=app)
        self.scorer = RayScorer(handle, self._config, app=app)
        await self.scorer.start(deadline_s=self._config.deadlines.start_s)

    async def reward_model(self) -> dict[str, Any]:
        """Name, revision and dimensions of the reward model in use."""
        return self.scorer.reward_model

    async def write_latents(self, path: Path, chosen: Handle, rejected: Handle) -> str:
        """Writes a pair's latents where they are; returns the file's sha256."""
        return await self.generator.write_latents(path, chosen, rejected)

    async def fetch(self, handle: Handle) -> np.ndarray:
        """The array behind a handle: for evaluation and sample videos, never for training."""
        return await handle  # type: ignore[no-any-return]

    def pids(self) -> dict[str, Any]:
        """Process ids by role."""
        return {
            "generators": self.generator.pids,
            "scorer": self.scorer.pids,
            "learner": self.learner.pids,
            "mailbox": self.learner.mailbox_pid,
        }

    async def close(self) -> None:
        """Ends every process of the run and removes what only they needed."""
        if self.generator is not None:
            await self.generator.close()
        if self.learner is not None:
            await self.learner.stop()
        await asyncio.to_thread(self._session.close)
