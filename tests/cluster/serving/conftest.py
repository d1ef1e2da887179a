"""One private Ray for all tests of this folder that need it."""

from collections.abc import AsyncIterator

import pytest_asyncio

from cluster.local_ray import RayNeeds, RaySession
from cluster.serving.deployment import Deployment
from policies.config import ShapesRewardConfig


@pytest_asyncio.fixture(scope="package", loop_scope="package")
async def session() -> AsyncIterator[RaySession]:
    room = Deployment(name="room", reward=ShapesRewardConfig(), replicas=16)
    opened = RaySession(RayNeeds.of_service("local", [room], start_s=60))
    await opened.open()
    yield opened
    await opened.close()
