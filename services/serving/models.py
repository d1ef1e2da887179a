"""The reward models of a service while it runs: what the configuration says about them, and how that may change."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from cluster.serving.deployment import Autoscaling, Deployment
from services.scoring.pool import ModelPool
from services.serve_config import DeploymentConfig, ServeConfig

if TYPE_CHECKING:  # it brings Ray Serve
    from cluster.serving.server import ModelServer


def deployments(models: Mapping[str, DeploymentConfig]) -> list[Deployment]:
    """What Ray Serve has to run."""
    return [_deployment(name, config) for name, config in models.items()]


def _deployment(name: str, config: DeploymentConfig) -> Deployment:
    scaling = config.autoscaling
    return Deployment(
        name=name,
        reward=config.reward,
        replicas=config.replicas,
        autoscaling=Autoscaling(**scaling.model_dump()) if scaling is not None else None,
        cpus_per_replica=config.cpus_per_replica,
        gpus_per_replica=config.gpus_per_replica,
        torch_threads=config.torch_threads,
        callers_weight=config.callers_weight,
        runs_weight=config.runs_weight,
    )


class ServiceModels:
    """Deployed models and their batchers, kept in step."""

    def __init__(self, server: ModelServer, config: ServeConfig) -> None:
        self._server, self._drain_s = server, config.drain_s
        self._configs: dict[str, DeploymentConfig] = {}
        self.pool = ModelPool(default=config.default, restart=server.restart)
        for name, model in config.models.items():
            self._add(name, model)

    async def apply(self, config: ServeConfig) -> list[str]:
        """Makes the models those of another configuration, and says what was done. The others keep their processes.

        Raises:
            OnlineVPOError: what the first model that failed raised; it is left out or stays what it was.
        """
        before, after = set(self._configs), set(config.models)
        gone = sorted(before - after)
        changed = sorted(name for name in before & after if self._configs[name] != config.models[name])
        self.pool.default = config.default if config.default in before else self.pool.default
        await asyncio.gather(*(self._remove(name) for name in gone))
        try:
            await self._server.apply(deployments(config.models))
        finally:
            running = self._server.deployments
            for name in after & set(running):
                if running[name] == _deployment(name, config.models[name]):
                    await self._replace(name, config.models[name])
            self.pool.default = (
                config.default if config.default in self._configs else next(iter(self._configs), config.default)
            )
        done = [("added", sorted(after - before)), ("removed", gone), ("changed", changed)]
        return [f"{what} {', '.join(names)}" for what, names in done if names]

    async def close(self, *, deadline: float) -> None:
        """Finishes what the models have until the deadline (of time.monotonic()), then ends their replicas."""
        await self.pool.close(deadline=deadline)
        await self._server.close()

    def _add(self, name: str, config: DeploymentConfig) -> None:
        self.pool.add(name, self._server.forwards[name], config)
        self._configs[name] = config

    async def _remove(self, name: str) -> None:
        del self._configs[name]
        await self.pool.remove(name, deadline=time.monotonic() + self._drain_s)

    async def _replace(self, name: str, config: DeploymentConfig) -> None:
        """A new batcher takes the name at once, while the old one finishes what it has."""
        if self._configs.get(name) == config:
            return
        if name in self._configs:
            finishing = asyncio.create_task(self._remove(name))
            await asyncio.sleep(0)  # the name is free now
            self._add(name, config)
            await finishing
        else:
            self._add(name, config)
