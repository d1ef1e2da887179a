"""A gateway with real parts: SQLite, decoder processes, the bundled reward model."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx2
import pytest
import pytest_asyncio
from fastapi import FastAPI

from cluster.serving.batch_scorer import BatchScorer
from cluster.store.keys import SCOPES, Scope, new_key
from cluster.store.open import open_store
from cluster.store.store import Store
from policies.config import ShapesRewardConfig
from policies.rewards.model import load_reward_model
from services.gateway.app import create_app
from services.gateway.state import Gateway
from services.media.files import ContentFolder
from services.media.guard import MediaGuard
from services.scoring.model import Models
from services.serve_config import ServeConfig
from tests.cluster.store.conftest import ManualClock
from tests.cluster.store.server import Server
from tests.services.in_process_model import InProcessModel, InProcessModels


@dataclass(frozen=True, kw_only=True)
class Service:
    """An app, and clients of it."""

    app: FastAPI
    gateway: Gateway
    admin: str
    """Token of a key with every scope."""

    async def token(self, *scopes: Scope) -> str:
        """A new key's token."""
        new = new_key()
        await self.gateway.store.keys.add(new, name="test", scopes=scopes or SCOPES)
        return new.token

    def client(self, token: str | None = None, **headers: str) -> httpx2.AsyncClient:
        """Speaks to the app in this process."""
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        transport = httpx2.ASGITransport(self.app, raise_app_exceptions=False)
        return httpx2.AsyncClient(transport=transport, base_url="http://localhost", headers=headers)


@pytest.fixture(scope="module")
def server() -> Any:
    """A real Valkey."""
    running = Server()
    yield running
    running.close()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture(scope="session")
def scorer() -> BatchScorer:
    config = ShapesRewardConfig()
    return BatchScorer(load_reward_model(config, device="cpu"), name="shapes", dtype=config.dtype)


@pytest.fixture
def shapes(scorer: BatchScorer) -> InProcessModels:
    """The bundled model; loaded once, but its lock belongs to one event loop."""
    return InProcessModels({"shapes": InProcessModel(scorer)})


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def guard() -> AsyncIterator[MediaGuard]:
    async with MediaGuard(slots=2) as entered:
        yield entered


@pytest_asyncio.fixture(loop_scope="module")
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    opened = await open_store(tmp_path / "store.db")
    yield opened
    await opened.close()


@pytest_asyncio.fixture(loop_scope="module")
async def make_service(tmp_path: Path, store: Store, guard: MediaGuard, shapes: InProcessModels) -> Callable[..., Any]:
    """Services over one store; `models` and parts of the configuration can be other than usual."""

    async def make(
        *, models: Models | None = None, models_config: Any = None, access_log: bool = False, **config: Any
    ) -> Service:
        if models_config is not None:
            config["models"] = models_config
        gateway = Gateway(
            config=ServeConfig(**config), store=store, files=ContentFolder(tmp_path / "files"), guard=guard,
            models=models or shapes,
        )  # fmt: skip
        return await serve(gateway, access_log=access_log)

    return make


async def serve(gateway: Gateway, *, access_log: bool = False) -> Service:
    service = Service(app=create_app(gateway, access_log=access_log), gateway=gateway, admin="")
    return replace(service, admin=await service.token())


@pytest_asyncio.fixture(loop_scope="module")
async def service(make_service: Callable[..., Any]) -> Service:
    made: Service = await make_service()
    return made


@pytest_asyncio.fixture(loop_scope="module")
async def client(service: Service) -> AsyncIterator[httpx2.AsyncClient]:
    """With a key of every scope."""
    async with service.client(service.admin) as opened:
        yield opened


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def shared_service(
    tmp_path_factory: pytest.TempPathFactory, guard: MediaGuard, scorer: BatchScorer
) -> AsyncIterator[Service]:
    """One for all tests of a file: for those that leave nothing behind."""
    folder = tmp_path_factory.mktemp("service")
    opened = await open_store(folder / "store.db")
    models = InProcessModels({"shapes": InProcessModel(scorer)})
    files = ContentFolder(folder / "files")
    yield await serve(Gateway(config=ServeConfig(), store=opened, files=files, guard=guard, models=models))
    await opened.close()


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def shared_client(shared_service: Service) -> AsyncIterator[httpx2.AsyncClient]:
    """With a key of every scope."""
    async with shared_service.client(shared_service.admin) as opened:
        yield opened
