from collections.abc import AsyncIterator

import pytest_asyncio

from services.media.guard import MediaGuard
from services.media.limits import MediaLimits

SMALL = MediaLimits(max_bytes=2**20, max_frame_pixels=2**16, max_frames=64, max_seconds=10, max_pixels=2**20)


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def guard() -> AsyncIterator[MediaGuard]:
    async with MediaGuard(SMALL, slots=1, cache_bytes=0) as entered:
        yield entered
