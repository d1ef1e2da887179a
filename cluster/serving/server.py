"""The reward models of a service on Ray Serve: brought up, changed one by one, restarted without a gap, taken down.

Ray must run in this process: open a `RaySession` first and close it last. Ray Serve is imported when the server starts,
for it reads settings that the session makes.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from cluster.serving.deployment import Deployment
from policies.errors import InputError

if TYPE_CHECKING:
    from cluster.serving.remote import RemoteForward


class ModelServer:
    """Each model is a Serve application of its own, named like its deployment. Use it from one loop."""

    def __init__(self, *, start_s: float) -> None:
        self._start_s = start_s
        self._deployments: dict[str, Deployment] = {}
        self._forwards: dict[str, RemoteForward] = {}
        self._changing = asyncio.Lock()

    @classmethod
    async def start(cls, deployments: Iterable[Deployment], *, start_s: float) -> ModelServer:
        """Returns when every replica of every model has loaded; after an error nothing of it is left.

        Args:
            start_s: how long a model may take to load, now and later.
        Raises:
            OnlineVPOError: what a model raised while it loaded.
            StallError: `start_s` was not enough.
        """
        server = cls(start_s=start_s)
        try:
            await server.apply(deployments)
        except BaseException:
            await server.close()
            raise
        return server

    @property
    def forwards(self) -> Mapping[str, RemoteForward]:
        """A `Forward` per model, by name. A model that is changed or restarted keeps its own."""
        return MappingProxyType(self._forwards)

    @property
    def deployments(self) -> Mapping[str, Deployment]:
        """What runs."""
        return MappingProxyType(self._deployments)

    async def apply(self, deployments: Iterable[Deployment]) -> None:
        """Makes these the models of the service: new ones come up, others go, changed ones are replaced without a gap.

        Models that stay as they are keep their processes. A model that cannot be brought up changes nothing about the
        others: a new one is then left out, a changed one stays what it was.

        Raises:
            OnlineVPOError: what the first model that failed raised, when all have been tried.
        """
        from cluster.serving.application import start_serve

        wanted = {deployment.name: deployment for deployment in deployments}
        async with self._changing:
            await start_serve(seconds=self._start_s)
            changed = [one for name, one in wanted.items() if self._deployments.get(name) != one]
            gone = self._deployments.keys() - wanted.keys()
            results = await asyncio.gather(
                *(self._bring_up(one) for one in changed), *(self._take_down(name) for name in gone),
                return_exceptions=True,
            )  # fmt: skip
        _raise_first(results)

    async def restart(self, name: str) -> None:
        """Replaces every replica of a model, one after another, each by one that has loaded before the old one goes.

        Where no room is left for one more, an old one goes first and calls wait for the new one.

        Raises:
            InputError: there is no such model.
            OnlineVPOError: what the model raised while it loaded; the replicas not yet replaced go on.
        """
        async with self._changing:
            if name not in self._deployments:
                raise InputError(f"there is no model {name!r}; there are {', '.join(self._deployments)}")
            await self._deploy(self._deployments[name])

    async def close(self) -> None:
        """Ends every model's replicas."""
        async with self._changing:
            ending = [self._take_down(name) for name in list(self._deployments)]
            _raise_first(await asyncio.gather(*ending, return_exceptions=True))

    async def _bring_up(self, deployment: Deployment) -> None:
        name = deployment.name
        before = self._deployments.get(name)
        self._deployments[name] = deployment
        try:
            await self._deploy(deployment)
        except BaseException:
            if before is None:
                await self._take_down(name)
            else:
                await self._put_back(before)
            raise

    async def _deploy(self, deployment: Deployment) -> None:
        from cluster.serving.application import deploy, until_running
        from cluster.serving.remote import RemoteForward

        deadline = time.monotonic() + self._start_s
        await deploy(deployment)
        await until_running(deployment.name, what=f"the reward model {deployment.name!r}", deadline=deadline)
        forward = self._forwards.get(deployment.name) or RemoteForward(deployment.name)
        await forward.describe(deadline=deadline)
        self._forwards[deployment.name] = forward

    async def _put_back(self, before: Deployment) -> None:
        """The old replicas still run; Serve must want them again, or it would not replace one that dies."""
        from cluster.serving.application import deploy

        self._deployments[before.name] = before
        await deploy(before)

    async def _take_down(self, name: str) -> None:
        from cluster.serving.application import delete

        self._deployments.pop(name, None)
        if (forward := self._forwards.pop(name, None)) is not None:
            await forward.close()
        await delete(name)


def _raise_first(results: Iterable[object]) -> None:
    """Raises the first error among them; the others are told in its notes."""
    errors = [result for result in results if isinstance(result, BaseException)]
    if errors:
        for other in errors[1:]:
            errors[0].add_note(f"and: {other}")
        raise errors[0]
