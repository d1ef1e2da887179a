"""The reward server of a run: replicas of its own as a Ray Serve application, or a model of a scoring service.

Both are reached by handle, without HTTP. A call is a run's group and one forward of its own, so its numbers do not
depend on what else is being scored.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from ray import serve
from ray.serve.handle import DeploymentHandle

from cluster.config import RunConfig
from cluster.factories import Named, RewardScorer
from cluster.serving.application import application, run_application, start_serve, until_running
from cluster.serving.replica import Replica
from policies.errors import InputError


async def deploy(config: RunConfig, build: Callable[[RunConfig], RewardScorer], *, app: str) -> DeploymentHandle:
    """Starts the run's own reward server; a handle when its replicas have loaded.

    Raises:
        OnlineVPOError: what a replica raised while it loaded.
    """
    placement = config.placement
    replica = Replica(
        build=partial(Named("cluster.serving.scorer_work", "ScorerWork"), config, build),
        stall_s=config.deadlines.score_s,
    )
    made = application(
        replica,
        num_replicas=placement.reward_replicas,
        ray_actor_options={"num_cpus": 1, "num_gpus": placement.gpus_per_reward_replica},
        health_check_timeout_s=30.0,
        graceful_shutdown_timeout_s=2.0,
        max_constructor_retry_count=3,
    )
    await start_serve(seconds=config.deadlines.start_s)
    await run_application(made, app)
    await until_running(app, what="the reward server", deadline=time.monotonic() + config.deadlines.start_s)
    return await asyncio.to_thread(serve.get_app_handle, app)


async def attach(config: RunConfig, *, app: str) -> DeploymentHandle:
    """A handle to the model of a service that `placement.reward_app` names. Raises InputError."""
    await start_serve(seconds=config.deadlines.start_s)
    if not await asyncio.to_thread(is_deployed, app):
        known = ", ".join(sorted((await asyncio.to_thread(serve.status)).applications)) or "none"
        raise InputError(
            f"placement.reward_app is {app!r}, and no such model is served on the Ray cluster at "
            f"{config.placement.address} (there are: {known}); start the service or set placement.reward_app: null"
        )
    return await asyncio.to_thread(serve.get_app_handle, app)


def is_deployed(app: str) -> bool:
    """Whether the application exists; call it in a thread."""
    applications: Mapping[str, Any] = serve.status().applications
    return app in applications and applications[app].status not in ("DELETING", "NOT_STARTED")
