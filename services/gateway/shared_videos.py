"""The videos of one request: one that several items name is read and decoded once, and kept until its last use."""

from __future__ import annotations

import asyncio
import time
from collections import Counter

from services.gateway.checking import Checked
from services.gateway.requests import Item, Video
from services.gateway.videos import Videos
from services.media.cache import Media


class SharedVideos:
    """For one request."""

    def __init__(self, videos: Videos, request: Checked, owner: str, deadline: float) -> None:
        self._videos, self._owner, self._deadline = videos, owner, deadline
        videos_used = [item.video for item in request.items if isinstance(item, Item)]
        # most requests are for one item, and a Counter takes ten times as long as a dict to make
        self._uses = Counter(videos_used) if len(videos_used) > 1 else dict.fromkeys(videos_used, 1)
        self._decoding: dict[Video, asyncio.Future[Media]] = {}
        # so many of one request stand in the decoders' line, so that others need not wait for all of them
        self._turns = asyncio.Semaphore(videos.at_once)

    async def media(self, video: Video) -> tuple[Media, float]:
        """Its frames, and the milliseconds until they were there. Raises Problem."""
        begun = time.perf_counter()
        if video not in self._decoding and self._uses[video] == 1:
            media = await self._decoded(video)
        else:
            media = await self._together(video)
        return media, 1000 * (time.perf_counter() - begun)

    async def _together(self, video: Video) -> Media:
        try:
            if (known := self._decoding.get(video)) is not None:
                return await asyncio.shield(known)
            first: asyncio.Future[Media] = asyncio.get_running_loop().create_future()
            self._decoding[video] = first
            try:
                first.set_result(await self._decoded(video))
            except Exception as error:
                first.set_exception(error)
                first.exception()  # nobody else may ask
                raise
            except BaseException:
                first.cancel()
                raise
            return first.result()
        finally:
            self._uses[video] -= 1
            if not self._uses[video]:
                self._decoding.pop(video, None)

    async def _decoded(self, video: Video) -> Media:
        async with self._turns:
            return await self._videos.media(video, owner=self._owner, deadline=self._deadline)
