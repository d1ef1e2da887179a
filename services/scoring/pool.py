"""The models of a service by name, which come and go one by one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from cluster.serving.values import Forward
from policies.errors import InputError
from services.scoring.batcher import Batcher
from services.serve_config import DeploymentConfig


class ModelPool:
    """Batchers over deployed models (the `Models` of a service).

    Args:
        default: the model of requests that name none; may be set anew.
        restart: replaces the replicas of a model while they answer.
    """

    def __init__(self, *, default: str, restart: Callable[[str], Awaitable[None]]) -> None:
        self.default = default
        self._restart = restart
        self._batchers: dict[str, Batcher] = {}

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._batchers)

    def get(self, name: str) -> Batcher | None:
        return self._batchers.get(name)

    def add(self, name: str, forward: Forward, config: DeploymentConfig) -> None:
        """From now on requests can name it."""
        if name in self._batchers:
            raise InputError(f"there is a model {name!r} already; remove it first")
        self._batchers[name] = Batcher(forward, config)

    async def remove(self, name: str, *, deadline: float) -> None:
        """From now on nobody can name it; what it has is finished until the deadline (of time.monotonic())."""
        batcher = self._batchers.pop(name, None)
        if batcher is None:
            raise InputError(f"there is no model {name!r}; there are {', '.join(self._batchers) or 'none'}")
        await batcher.close(deadline=deadline)

    async def restart(self, name: str) -> None:
        """Raises InputError for a name that there is not."""
        if name not in self._batchers:
            raise InputError(f"there is no model {name!r}; there are {', '.join(self._batchers) or 'none'}")
        await self._restart(name)

    async def close(self, *, deadline: float) -> None:
        """Finishes what all models have; they stay known, and refuse."""
        await asyncio.gather(*(batcher.close(deadline=deadline) for batcher in self._batchers.values()))
