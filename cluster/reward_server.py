"""The reward model as a Ray Serve deployment, reached by handle: no HTTP.

A call is a run's group and one forward of its own, so its numbers do not depend on what else is being scored.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
from ray import serve
from ray.serve.handle import DeploymentHandle
from ray.serve.schema import LoggingConfig

from cluster.config import RunConfig
from cluster.errors import PartError
from cluster.factories import RewardScorer
from cluster.handles import Place, rows_of
from policies.types import Candidate

MAX_ONGOING = 8  # calls that a replica accepts; it still runs one forward at a time


class RewardReplica:
    """One replica. The model is loaded and run in one thread of its own, so that health checks are answered."""

    def __init__(self, config: RunConfig, build: Callable[[RunConfig], RewardScorer]) -> None:
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="reward")
        self._loop = asyncio.new_event_loop()  # the thread's own
        self._scorer = self._worker.submit(build, config)

    async def describe(self) -> dict[str, Any]:
        """Name, revision and dimensions of the model, and the process id; waits for the model to be loaded."""
        scorer = await asyncio.wrap_future(self._scorer)
        return {**scorer.describe(), "pid": os.getpid()}

    async def score(
        self, candidates: Sequence[Candidate], places: Sequence[Place], *arrays: np.ndarray
    ) -> dict[str, Any]:
        """Scores, or the reason for none, in the order of the candidates; their frames are rows of the arrays."""
        scorer = await asyncio.wrap_future(self._scorer)
        frames = rows_of(places, arrays)
        whole = [replace(candidate, frames=row) for candidate, row in zip(candidates, frames, strict=True)]
        scored = await asyncio.get_running_loop().run_in_executor(
            self._worker, lambda: self._loop.run_until_complete(scorer.score(whole))
        )
        return {"pid": os.getpid(), "results": [(dict(one.scores), one.failure) for one in scored]}


def deploy(config: RunConfig, build: Callable[[RunConfig], RewardScorer], *, app: str) -> DeploymentHandle:
    """Starts the reward server and returns a handle when its replicas run; call it in a thread."""
    placement = config.placement
    logging.getLogger("ray.serve").setLevel(logging.WARNING)  # this process's share; replicas log to their files
    serve.start(proxy_location="Disabled")
    deployment = serve.deployment(RewardReplica).options(
        name="reward",
        num_replicas=placement.reward_replicas,
        max_ongoing_requests=MAX_ONGOING,
        ray_actor_options={"num_cpus": 1, "num_gpus": placement.gpus_per_reward_replica},
        health_check_period_s=1.0,
        health_check_timeout_s=30.0,
        graceful_shutdown_timeout_s=2.0,
        max_constructor_retry_count=3,
        logging_config=LoggingConfig(enable_access_log=False, log_level="WARNING"),
    )
    try:
        return serve.run(deployment.bind(config, build), name=app, route_prefix=None)
    except RuntimeError as error:
        raise PartError(f"the reward server did not start: {error}") from error


def is_deployed(app: str) -> bool:
    """Whether the application exists; call it in a thread."""
    applications: Mapping[str, Any] = serve.status().applications
    return app in applications and applications[app].status not in ("DELETING", "NOT_STARTED")
