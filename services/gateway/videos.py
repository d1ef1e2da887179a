"""Where the videos of a request come from, and their frames."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import time

from policies.errors import StallError
from services.gateway.metrics import Metrics
from services.gateway.problem_kinds import (
    DEADLINE_PASSED,
    DECODER_UNAVAILABLE,
    FILE_NOT_FOUND,
    INVALID_DATA_URL,
    QUEUE_FULL,
    URI,
    VIDEO,
)
from services.gateway.problems import Problem
from services.gateway.requests import Video
from services.gateway.state import Gateway
from services.gateway.uris import UriRefused, UriRoots
from services.media.cache import Media
from services.media.refusal import Code, GuardBusy, GuardUnavailable, MediaRefused

_PREFIXES = ("data:video/mp4;base64,", "data:video/webm;base64,")
_LARGE = 256 * 1024  # characters; above it others are let in meanwhile
_RETRY_S = 2.0
OWNERSHIP_S = 2.0
_MOST_OWNERSHIPS = 4096


class Videos:
    """Reads and decodes."""

    def __init__(self, gateway: Gateway, uris: UriRoots, metrics: Metrics) -> None:
        self._gateway, self._uris, self._metrics = gateway, uris, metrics
        # as many as there are decoders, and some that are read meanwhile
        self.at_once = gateway.config.decoders + 2
        self._line = asyncio.Semaphore(self.at_once)
        self._owned: dict[tuple[str, str], float] = {}

    async def media(self, video: Video, *, owner: str, deadline: float) -> Media:
        """A video's frames.

        Args:
            owner: who asks; a file must be theirs.
            deadline: of time.monotonic().
        Raises:
            Problem: there are none.
        """
        try:
            if (known := await self._known(video, owner)) is not None:
                return known
            async with asyncio.timeout(deadline - time.monotonic()):
                async with self._line:
                    media = await self._decoded(video, deadline)
        except (MediaRefused, GuardBusy, GuardUnavailable, StallError, TimeoutError) as error:
            problem = _problem(error)
            self._metrics.video(problem.kind.code)
            raise problem from None
        self._metrics.video("decoded")
        return media

    async def first_look(self, file_id: str, *, deadline: float) -> Media:
        """The frames of a file in the folder that need not be anybody's yet. Raises what the guard raises."""
        video = Video(file_id=file_id)
        try:
            media = self._gateway.guard.known(file_id)
            if media is None:
                async with self._line:
                    media = await self._decoded(video, deadline)
        except MediaRefused as refused:
            self._metrics.video(VIDEO[refused.code].code)
            raise
        self._metrics.video("decoded")
        return media

    async def _known(self, video: Video, owner: str) -> Media | None:
        """What needs neither a decoder nor a thread."""
        if video.file_id:
            await self._check_owner(video.file_id, owner)
            return self._gateway.guard.known(video.file_id)
        if video.data and len(video.data) < _LARGE:
            data = data_of(video.data, self._gateway.config.media.max_bytes)
            return self._gateway.guard.known(hashlib.sha256(data).hexdigest())
        return None

    def forget(self, owner: str, file_id: str) -> None:
        """The owner has deleted the file."""
        self._owned.pop((owner, file_id), None)

    async def _decoded(self, video: Video, deadline: float) -> Media:
        data = await self._bytes(video, deadline)
        return await self._gateway.guard.decode(data, deadline_s=max(0.0, deadline - time.monotonic()))

    async def _bytes(self, video: Video, deadline: float) -> bytes:
        most = self._gateway.config.media.max_bytes
        if video.data:
            large = len(video.data) >= _LARGE
            return await asyncio.to_thread(data_of, video.data, most) if large else data_of(video.data, most)
        if video.uri:
            try:
                return await self._uris.read(video.uri, max_bytes=most, deadline=deadline)
            except UriRefused as refused:
                raise Problem(URI[refused.code]) from None
        path = self._gateway.files.find(video.file_id)
        try:
            if path is not None:
                return await asyncio.to_thread(path.read_bytes)
        except FileNotFoundError:
            pass  # deleted in between
        raise Problem(FILE_NOT_FOUND)

    async def _check_owner(self, file_id: str, owner: str) -> None:
        """Remembered for a moment: requests come much faster than files go."""
        now = time.monotonic()
        if self._owned.get((owner, file_id), 0.0) > now:
            return
        file = await self._gateway.store.files.get(file_id)
        if file is None or owner not in file.owners:
            raise Problem(FILE_NOT_FOUND)
        if len(self._owned) >= _MOST_OWNERSHIPS:
            self._owned.clear()
        self._owned[owner, file_id] = now + OWNERSHIP_S


def data_of(url: str, max_bytes: int) -> bytes:
    """What a data URL holds. Nothing is decoded of one that is too large.

    Raises:
        Problem: it is none, or none of a video.
        MediaRefused: it is too large.
    """
    prefix = next((prefix for prefix in _PREFIXES if url.startswith(prefix)), None)
    if prefix is None:
        raise Problem(INVALID_DATA_URL)
    if len(url) - len(prefix) > (max_bytes + 3) * 4 // 3 + 4:
        raise MediaRefused(Code.TOO_LARGE)
    try:
        return base64.b64decode(memoryview(url.encode("ascii"))[len(prefix) :], validate=True)
    except (binascii.Error, ValueError):
        pass
    raise Problem(INVALID_DATA_URL)


def _problem(error: Exception) -> Problem:
    match error:
        case MediaRefused(code=code):
            return Problem(VIDEO[code])
        case GuardBusy():
            return Problem(QUEUE_FULL, retry_after_s=_RETRY_S)
        case GuardUnavailable():
            return Problem(DECODER_UNAVAILABLE, retry_after_s=_RETRY_S)
        case _:
            return Problem(DEADLINE_PASSED, "The deadline passed before the video was decoded.")
