"""Generators, reward server and learner as Ray processes of their own, brought up and down together."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cluster.config import RunConfig
from cluster.deadline import within
from cluster.factories import Factories
from cluster.generators import GeneratorPool
from cluster.handles import Row
from cluster.local_ray import RayNeeds, RaySession
from policies.types import Handle

if TYPE_CHECKING:
    from cluster.learner import RayLearner
    from cluster.scorer import RayScorer


class SplitPlacement:
    """A `Placement` on Ray."""

    generator: GeneratorPool
    scorer: RayScorer
    learner: RayLearner

    def __init__(self, config: RunConfig, run_dir: Path, factories: Factories) -> None:
        self._config, self._run_dir, self._factories = config, run_dir, factories
        self._session = RaySession(RayNeeds.of_run(config.placement, config.deadlines))
        self._name = f"onlinevpo-{secrets.token_hex(4)}"
        self._closing = contextlib.AsyncExitStack()  # what to end, last come first

    @classmethod
    async def start(cls, config: RunConfig, run_dir: Path, *, factories: Factories) -> SplitPlacement:
        """Everything up, and the learner restored from the newest commit. A failure leaves nothing behind.

        Raises:
            ClusterError: Ray cannot be started or reached.
            InputError, PartError: what a part raised while it loaded.
            StallError: `deadlines.start_s` was not enough.
        """
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
        # Ray Train and Serve take seconds to import, which fit into the seconds that Ray takes to start.
        importing = asyncio.to_thread(
            lambda: [importlib.import_module(f"cluster.{name}") for name in ("learner", "scorer")]
        )
        self._closing.push_async_callback(self._session.close)
        await asyncio.gather(self._session.open(), importing)
        try:
            async with asyncio.TaskGroup() as parts:
                for start in (self._start_learner, self._start_generators, self._start_scorer):
                    parts.create_task(start())
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None  # the first to fail; the others were cancelled

    async def _start_learner(self) -> None:
        from cluster.learner import RayLearner

        train_dir = self._session.scratch(self._run_dir)
        self.learner = RayLearner(
            self._config,
            self._run_dir,
            self._factories,
            train_dir=train_dir,
            name=self._name,
            log_tail=self._session.log_tail,
        )
        self._closing.push_async_callback(self.learner.stop)
        await self.learner.start()

    async def _start_generators(self) -> None:
        self.generator = GeneratorPool(
            self._config, self._run_dir, self._factories.generator, log_tail=self._session.log_tail
        )
        self._closing.push_async_callback(self.generator.close)
        await self.generator.start()

    async def _start_scorer(self) -> None:
        from ray import serve

        from cluster.reward_server import attach, deploy
        from cluster.scorer import RayScorer
        from cluster.serving.same_model import check_model

        config, app = self._config, self._config.placement.reward_app or self._name
        if config.placement.reward_app is not None:
            handle = await attach(config, app=app)
        else:
            if not self._session.is_private:
                self._closing.push_async_callback(asyncio.to_thread, serve.delete, app)
            handle = await deploy(config, self._factories.scorer, app=app)
        self.scorer = RayScorer(handle, config, app=app)
        await self.scorer.start(deadline_s=config.deadlines.start_s)
        if config.placement.reward_app is not None:
            check_model(config.reward, self.scorer.described, app=app)

    async def reward_model(self) -> dict[str, Any]:
        """Name, revision, files, dimensions and own scale of the reward model in use."""
        return self.scorer.reward_model

    async def write_latents(self, path: Path, chosen: Handle, rejected: Handle) -> str:
        """Writes a pair's latents where they are; returns the file's sha256."""
        return await self.generator.write_latents(path, chosen, rejected)

    async def fetch(self, handle: Handle) -> np.ndarray:
        """The array behind a handle: for evaluation and sample videos, never for training."""
        row: Row = handle
        return await row.fetch()

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
        await self._closing.aclose()
