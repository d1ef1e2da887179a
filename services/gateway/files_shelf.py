"""Uploaded files: their bytes in the folder, their owners in the store, and both in step.

Bytes come before their entry and go after it. Whoever takes bytes away first sets them aside and looks whether someone
has entered them meanwhile; whoever enters a file looks afterwards whether its bytes are still there.
"""

from __future__ import annotations

import asyncio
import errno
import time
from collections import Counter
from collections.abc import AsyncIterable, AsyncIterator, Iterator, Mapping
from contextlib import ExitStack, asynccontextmanager, contextmanager

from pydantic import JsonValue

from cluster.store.files import File, Files
from services.gateway.problem_kinds import QUEUE_FULL, kind
from services.gateway.problems import Problem
from services.media.files import ContentFolder, StoredFile

MEASURED_EVERY_S = 600.0
_LOOKS, _BETWEEN_LOOKS_S = 20, 0.05
_SETTLED_S = 10.0

STORAGE_FULL = kind(
    "storage_full", 507, "Storage full", "The server has no room for more files.",
    "Delete files that are no longer needed, or ask whoever runs the server for more room.",
)  # fmt: skip


class Shelf:
    """All files of one server, up to so many bytes."""

    def __init__(self, folder: ContentFolder, index: Files, *, max_bytes: int) -> None:
        self._folder, self._index, self._max_bytes = folder, index, max_bytes
        self._used, self._measured_at = 0, float("-inf")
        self._measuring = asyncio.Lock()
        self._entering: Counter[str] = Counter()
        self._settling: set[asyncio.Future[None]] = set()

    @asynccontextmanager
    async def arriving(
        self, chunks: AsyncIterable[bytes], *, max_bytes: int, chunk_s: float
    ) -> AsyncIterator[StoredFile]:
        """Takes bytes in, as `ContentFolder.receive`, for as long as this lasts. Entered until then, they stay.

        Raises:
            Problem: there is no room for them.
        """
        await self._measure()
        settled = asyncio.get_running_loop().create_future()
        with ExitStack() as entering:
            try:
                stored = await self._received(chunks, settled, max_bytes=max_bytes, chunk_s=chunk_s)
                entering.enter_context(self.entering(stored.sha256))
            finally:
                self._settling.discard(settled)
                settled.set_result(None)
            try:
                yield stored
            finally:
                entering.close()
                await self.tidy(stored.sha256)

    async def _received(
        self, chunks: AsyncIterable[bytes], settled: asyncio.Future[None], *, max_bytes: int, chunk_s: float
    ) -> StoredFile:
        taken = 0

        async def counted() -> AsyncIterator[bytes]:
            nonlocal taken
            async for chunk in chunks:
                if self._used + len(chunk) > self._max_bytes:
                    raise Problem(STORAGE_FULL)
                self._used += len(chunk)
                taken += len(chunk)
                yield chunk
            # from here until it is known which file it is, it may be any, also one that is about to go
            self._settling.add(settled)

        stored: StoredFile | None = None
        try:
            stored = await self._folder.receive(counted(), max_bytes=max_bytes, chunk_s=chunk_s)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise Problem(STORAGE_FULL) from error
            raise
        finally:
            if stored is None or not stored.is_new:
                self._used -= taken
        return stored

    @contextmanager
    def entering(self, sha256: str) -> Iterator[None]:
        """For as long as this lasts, this server does not take the file's bytes away."""
        self._entering[sha256] += 1
        try:
            yield
        finally:
            self._entering[sha256] -= 1
            if not self._entering[sha256]:
                del self._entering[sha256]

    async def enter(
        self, owner: str, *, sha256: str, size: int, media_type: str, facts: Mapping[str, JsonValue]
    ) -> tuple[File, bool]:
        """Makes an owner of someone, and says whether they were one before.

        Raises:
            Problem: another server took the bytes away in between; they have to be sent again.
        """
        with self.entering(sha256):
            known = await self._index.get(sha256)
            had_it = known is not None and owner in known.owners
            file, _ = await self._index.put(
                owner=owner, sha256=sha256, size=size, media_type=media_type, facts=facts
            )  # fmt: skip
            if not await self._is_there(sha256):
                await self._index.delete(owner=owner, sha256=sha256)
                raise Problem(QUEUE_FULL, retry_after_s=1)
            return file, had_it

    async def take_from(self, owner: str, sha256: str) -> None:
        """Takes a file from an owner; its bytes go with the last one."""
        if await self._index.delete(owner=owner, sha256=sha256):
            await self.tidy(sha256)

    async def tidy(self, sha256: str) -> bool:
        """Takes away bytes that are nobody's; whether there were any."""
        if sha256 in self._entering or await self._index.get(sha256) is not None:
            return False
        path = self._folder.find(sha256)
        size = path.stat().st_size if path else 0
        if not self._folder.set_aside(sha256):
            return False
        try:
            if self._settling:
                await asyncio.wait(set(self._settling), timeout=_SETTLED_S)
            is_wanted = sha256 in self._entering or await self._index.get(sha256) is not None
        except BaseException:
            self._folder.put_back(sha256)
            raise
        if is_wanted:
            self._folder.put_back(sha256)
            return False
        self._folder.remove(sha256)
        self._used -= size
        return True

    async def _is_there(self, sha256: str) -> bool:
        for _ in range(_LOOKS):
            if self._folder.find(sha256) is not None:
                return True
            await asyncio.sleep(_BETWEEN_LOOKS_S)  # set aside by a server that is about to find our entry
        return False

    async def _measure(self) -> None:
        """Other servers may share the folder, so what it holds is looked up now and then."""
        async with self._measuring:
            if time.monotonic() - self._measured_at > MEASURED_EVERY_S:
                self._used = await asyncio.to_thread(lambda: sum(size for _, size, _ in self._folder.all()))
                self._measured_at = time.monotonic()
