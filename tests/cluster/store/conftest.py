"""Every test that asks for `place` or `store` runs on SQLite and on a real server."""

from __future__ import annotations

import os
import tempfile
import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from cluster.store.open import open_store
from cluster.store.records import Clock
from cluster.store.store import Store
from tests.cluster.store.server import Server

QUICK = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
"""In memory where the machine has a place for it: no test of a rule waits for a disk."""


@dataclass
class ManualClock:
    now: float = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


@dataclass(frozen=True)
class Place:
    """Where a store lies; may be opened as often as one likes."""

    address: str
    prefix: str

    async def open(self, clock: Clock | None = None, deadline_s: float = 30.0) -> Store:
        return await open_store(self.address, prefix=self.prefix, clock=clock, deadline_s=deadline_s)


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    running = Server()
    yield running
    running.close()


@pytest.fixture
def quick_folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=QUICK) as folder:
        yield Path(folder)


@pytest.fixture(params=["sqlite", "redis"])
def place(request: pytest.FixtureRequest, quick_folder: Path) -> Place:
    prefix = uuid.uuid4().hex
    if request.param == "sqlite":
        return Place(str(quick_folder / "store.sqlite"), prefix)
    return Place(request.getfixturevalue("server").url, prefix)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def store(place: Place, clock: ManualClock) -> AsyncIterator[Store]:
    opened = await place.open(clock)
    yield opened
    await opened.close()


@pytest.fixture
async def other(place: Place, clock: ManualClock) -> AsyncIterator[Store]:
    """A second store object over the same file or server."""
    opened = await place.open(clock)
    yield opened
    await opened.close()
