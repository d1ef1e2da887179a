"""A reward model's Serve application: how it is deployed, watched until it answers, and taken away."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from functools import partial
from typing import Any

import ray
from ray import serve
from ray.exceptions import RayError
from ray.serve.config import AutoscalingConfig, RequestRouterConfig
from ray.serve.handle import DeploymentHandle
from ray.serve.schema import ApplicationStatusOverview, LoggingConfig

from cluster.deadline import within
from cluster.errors import PartError
from cluster.factories import Named
from cluster.serving.deployment import Autoscaling, Deployment
from cluster.serving.replica import Replica, RewardReplica, load_error
from cluster.serving.router import LeastBusy
from policies.errors import InputError, OnlineVPOError, StallError

DEPLOYMENT = "reward"  # each application has this one deployment
MOST_ONGOING = 1000  # calls that a replica accepts; it runs one at a time, and runs must not take all places
DRAIN_S = 60.0  # how long a replica that is replaced may work on what it has accepted
BUSY_SHARE = 0.7  # of its time that a replica may be busy before another is started
POLL_S = 0.1
COMMAND_S = 30.0  # how long Serve's controller may take to answer


async def start_serve(*, seconds: float) -> None:
    """Serve itself, with no HTTP of its own; harmless where it runs already. Raises StallError."""
    logging.getLogger("ray.serve").setLevel(logging.ERROR)  # this process's share; replicas log to their files
    start = asyncio.to_thread(serve.start, proxy_location="Disabled")
    await within(start, seconds=seconds, waiting_for="Ray Serve to start")


def application(replica: Replica, **options: Any) -> serve.Application:
    """A reward model's application; `options` are those that differ between services and runs."""
    return (
        serve.deployment(RewardReplica)
        .options(
            name=DEPLOYMENT,
            max_ongoing_requests=MOST_ONGOING,
            health_check_period_s=1.0,
            graceful_shutdown_wait_loop_s=0.1,
            logging_config=LoggingConfig(enable_access_log=False, log_level="WARNING"),
            request_router_config=RequestRouterConfig(request_router_class=LeastBusy),
            **options,
        )
        .bind(replica)
    )


async def run_application(app: serve.Application, name: str) -> None:
    """Tells Serve what should run under a name, in place of what runs there, and does not wait for it to be up."""
    run = asyncio.to_thread(
        serve.run_many,
        [serve.RunTarget(app, name=name, route_prefix=None)],
        wait_for_ingress_deployment_creation=False,
        wait_for_applications_running=False,
    )
    await within(run, seconds=COMMAND_S, waiting_for=f"Ray Serve when it was told to run {name}")


async def deploy(deployment: Deployment) -> None:
    """Tells Serve how a model should run; the replicas that are there are replaced one after another."""
    replica = Replica(
        build=partial(Named("cluster.serving.loading", "ModelWork"), deployment),
        callers_weight=deployment.callers_weight,
        runs_weight=deployment.runs_weight,
        stall_s=deployment.stall_s,
    )
    resources = {"num_cpus": deployment.cpus_per_replica, "num_gpus": deployment.gpus_per_replica}
    has_room = await within(
        asyncio.to_thread(_has_room, deployment), seconds=COMMAND_S, waiting_for="Ray when it was asked what is free"
    )
    app = application(
        replica,
        ray_actor_options=resources,
        max_surge_percent=1 if has_room else 0,  # rounded up: one more replica while they are replaced
        max_constructor_retry_count=3,
        health_check_timeout_s=5.0,
        graceful_shutdown_timeout_s=DRAIN_S,
        **_replicas(deployment),
    )
    await run_application(app, deployment.name)


def _replicas(deployment: Deployment) -> dict[str, Any]:
    if deployment.autoscaling is None:
        return {"num_replicas": deployment.replicas}
    return {"autoscaling_config": _autoscaling(deployment.autoscaling)}


def _autoscaling(limits: Autoscaling) -> AutoscalingConfig:
    """Serve counts calls in flight, averaged: with one batch at a time per replica, the share of time it is busy."""
    return AutoscalingConfig(
        min_replicas=limits.min_replicas,
        initial_replicas=limits.min_replicas,
        max_replicas=limits.max_replicas,
        target_ongoing_requests=BUSY_SHARE,
        upscale_delay_s=limits.upscale_delay_s,
        downscale_delay_s=limits.downscale_delay_s,
        look_back_period_s=min(30.0, max(2.0, limits.upscale_delay_s)),
    )


def _has_room(deployment: Deployment) -> bool:
    """Whether one more replica fits beside the present ones, so that a replacement can come up first."""
    free = ray.available_resources()
    return bool(
        free.get("CPU", 0.0) >= deployment.cpus_per_replica and free.get("GPU", 0.0) >= deployment.gpus_per_replica
    )


async def until_running(name: str, *, what: str, deadline: float) -> None:
    """Returns when every replica of the newest version has its model loaded and older ones are gone.

    Args:
        what: the application, for error messages.

    Raises:
        OnlineVPOError: what the model raised while it loaded, or why Serve gave up.
        StallError: the deadline (of time.monotonic()) passed.
    """
    message = ""
    while time.monotonic() < deadline:
        status = await _status(name)
        if status is not None:
            message = _message(status)
            if error := _failure(what, status, message):
                raise error
            if _is_settled(status):
                return
        await asyncio.sleep(POLL_S)
    raise StallError(f"{what} is not up in time; Ray Serve says: {message or 'nothing'}")


async def _status(name: str) -> ApplicationStatusOverview | None:
    """What Serve says about an application; None when it says nothing, for now."""
    with contextlib.suppress(RayError, StallError):
        asked = await within(asyncio.to_thread(serve.status), seconds=COMMAND_S, waiting_for="Ray Serve's status")
        return asked.applications.get(name)
    return None


def _message(status: ApplicationStatusOverview) -> str:
    return "\n".join(filter(None, [*(one.message for one in status.deployments.values()), status.message]))


def _failure(what: str, status: ApplicationStatusOverview, message: str) -> OnlineVPOError | None:
    loading = load_error(what, message)
    if isinstance(loading, InputError):
        return loading  # Serve would try again; input that cannot be used stays so
    if status.status == "DEPLOY_FAILED" or (status.status == "UNHEALTHY" and loading is not None):
        return loading or PartError(f"{what} did not start: {message}")
    return None  # unhealthy otherwise: a replica died or hung, and another one comes


def _is_settled(status: ApplicationStatusOverview) -> bool:
    return status.status == "RUNNING" and all(one.status == "HEALTHY" for one in status.deployments.values())


async def delete(name: str) -> None:
    """Ends an application and its replicas, which finish what they have accepted. Raises StallError."""
    await within(
        asyncio.to_thread(serve.delete, name), seconds=DRAIN_S + COMMAND_S, waiting_for=f"the replicas of {name} to end"
    )


def handle_of(name: str) -> DeploymentHandle:
    """A handle of this loop's own: calls go out from here, without a second thread."""
    handle: DeploymentHandle = DeploymentHandle(DEPLOYMENT, name)
    handle._init(_run_router_in_separate_loop=False)
    return handle
