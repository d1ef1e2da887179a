"""A scoring service in this process: opened part by part, closed in the opposite order."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Self

from cluster.errors import PartError
from cluster.local_ray import RayNeeds, RaySession
from cluster.serving.server import ModelServer
from cluster.store.keys import SCOPES, new_key
from cluster.store.open import open_store
from cluster.store.store import Store
from policies.errors import ClusterError, InputError
from services.data_folder import files_folder, prepare, store_address
from services.gateway.app import create_app
from services.gateway.state import Gateway
from services.media.files import ContentFolder
from services.media.guard import MediaGuard
from services.media.refusal import GuardUnavailable
from services.serve_config import ServeConfig
from services.serving.http_server import HttpServer, bind, url_of
from services.serving.models import ServiceModels, deployments
from services.serving.starting import StartProgress

FIRST_KEY = "first"
_LOOK_S = 1.0


class Service:
    """Everything that answers. `async with Service.open(...) as service:` has it up, and down again."""

    def __init__(self, config: ServeConfig, gateway: Gateway, models: ServiceModels, session: RaySession) -> None:
        self.config, self.gateway, self.models, self._session = config, gateway, models, session
        self.app = create_app(gateway, access_log=config.access_log)
        self.http = HttpServer(self.app, drain_s=config.drain_s)
        self.url = ""

    @classmethod
    @asynccontextmanager
    async def open(
        cls, config: ServeConfig, progress: StartProgress, *, on_ray: Callable[[], None]
    ) -> AsyncIterator[Self]:
        """Brings up all parts and returns when each of them answers.

        Args:
            on_ray: called when Ray is there, which puts handlers of its own in the way of signals.
        Raises:
            InputError: the configuration asks for what cannot be had here.
            OnlineVPOError: a part did not start.
        """
        async with AsyncExitStack() as stack:
            prepare(config)
            bound = stack.enter_context(bind(config))
            with progress.stage("starting decoders"):
                store = await _store(stack, config)
                guard = await _guard(stack, config)
            with progress.stage("starting Ray" if config.address == "local" else f"joining Ray at {config.address}"):
                session = await _ray(stack, config)
                on_ray()
            with progress.stage(f"loading {', '.join(config.models)}"):
                models = await _models(stack, config)
            files = ContentFolder(files_folder(config))
            gateway = Gateway(config=config, store=store, files=files, guard=guard, models=models.pool)
            service = cls(config, gateway, models, session)
            stack.push_async_callback(service._stop)
            await service._start(bound)
            yield service

    async def first_key(self) -> str | None:
        """A key that may do everything, if the store has none at all; nobody can see it again."""
        if await self.gateway.store.keys.all():
            return None
        new = new_key()
        await self.gateway.store.keys.add(new, name=FIRST_KEY, scopes=SCOPES)
        return new.token

    async def until_ended(self, told: asyncio.Event) -> None:
        """Returns when it is told to.

        Raises:
            ClusterError: Ray has ended. PartError: the HTTP server has.
        """
        waiting = asyncio.create_task(told.wait(), name="until told")
        try:
            while not told.is_set():
                await asyncio.wait((waiting, self.http.running), timeout=_LOOK_S, return_when=asyncio.FIRST_COMPLETED)
                if parts := self._session.ended_parts:
                    raise ClusterError(f"Ray's {' and '.join(parts)} ended; start the service again")
                if self.http.running.done():
                    raise PartError("the HTTP server ended by itself; start the service again")
        finally:
            waiting.cancel()

    def hurry(self) -> None:
        """What runs is no longer waited for."""
        self.http.force_exit = True

    async def _start(self, bound: socket.socket) -> None:
        self.url = url_of(self.config, bound)
        await self.http.start(bound)

    async def _stop(self) -> None:
        """Takes nothing new, finishes what runs within the time for draining."""
        tasks = getattr(self.app.state, "tasks", None)  # there since the app started
        handing_back = [] if tasks is None else [tasks.stop(self.config.drain_s)]
        await asyncio.gather(self.http.stop(), *handing_back)


async def _store(stack: AsyncExitStack, config: ServeConfig) -> Store:
    store = await open_store(store_address(config))
    stack.push_async_callback(store.close)
    return store


async def _guard(stack: AsyncExitStack, config: ServeConfig) -> MediaGuard:
    guard = MediaGuard(config.media, slots=config.decoders, unsafe_decode=config.unsafe_decode)
    try:
        return await stack.enter_async_context(guard)
    except GuardUnavailable as error:
        raise InputError(
            f"decoders cannot be started: {error}; --unsafe-decode does without that protection, for videos of your own"
        ) from error


async def _ray(stack: AsyncExitStack, config: ServeConfig) -> RaySession:
    needs = RayNeeds.of_service(config.address, deployments(config.models), start_s=config.start_s)
    session = RaySession(needs)
    stack.push_async_callback(session.close)
    await session.open()
    return session


async def _models(stack: AsyncExitStack, config: ServeConfig) -> ServiceModels:
    server = await ModelServer.start(deployments(config.models), start_s=config.start_s)
    models = ServiceModels(server, config)

    async def close() -> None:
        await models.close(deadline=time.monotonic() + config.drain_s)

    stack.push_async_callback(close)
    return models
