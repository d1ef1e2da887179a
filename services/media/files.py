"""Uploads, streamed into a folder where each file's name is the SHA-256 of its bytes."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import tempfile
import time
from collections.abc import AsyncIterable, AsyncIterator, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from policies.errors import StallError
from services.media.refusal import Code, MediaRefused

_INCOMING, _ASIDE = ".incoming", ".aside"
_NAME = re.compile(r"[0-9a-f]{64}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredFile:
    """A file as it lies in the folder. `is_new` is false where the same bytes were there already."""

    sha256: str
    size: int
    path: Path
    is_new: bool


class ContentFolder:
    """A folder of files by content. A file in it is whole; one that still arrives lies apart."""

    def __init__(self, folder: Path) -> None:
        """Creates the folder, readable by its owner only, where it does not exist."""
        self._folder = folder
        for name in (_INCOMING, _ASIDE):
            (folder / name).mkdir(parents=True, exist_ok=True, mode=0o700)

    def find(self, sha256: str) -> Path | None:
        """Where the file with this hash lies; None for one that is not here and for anything that is no hash."""
        if not _NAME.fullmatch(sha256):
            return None
        path = self._path(sha256)
        return path if path.is_file() else None

    async def receive(self, chunks: AsyncIterable[bytes], *, max_bytes: int, chunk_s: float) -> StoredFile:
        """Takes a file in as it comes.

        Args:
            chunks: its bytes. Once they are more than `max_bytes`, no other chunk is asked for.
            chunk_s: how long each chunk may take to come.
        Raises:
            MediaRefused: it is too large, or has no bytes.
            StallError: a chunk did not come in time.
        """
        descriptor, name = tempfile.mkstemp(dir=self._folder / _INCOMING)
        try:
            with os.fdopen(descriptor, "wb", buffering=0) as file:
                sha256, size = await _copy(chunks, file, max_bytes=max_bytes, chunk_s=chunk_s)
                await asyncio.to_thread(os.fsync, file.fileno())
            return await asyncio.to_thread(self._keep, Path(name), sha256, size)
        finally:
            with suppress(FileNotFoundError):
                os.unlink(name)

    def set_aside(self, sha256: str) -> bool:
        """Takes a file out, so that nobody finds it, until `put_back` or `remove`; whether it was there."""
        with suppress(FileNotFoundError):
            self._path(sha256).rename(self._folder / _ASIDE / sha256)
            return True
        return False

    def put_back(self, sha256: str) -> None:
        """Brings a file back that was set aside."""
        with suppress(FileNotFoundError):
            (self._folder / _ASIDE / sha256).rename(self._path(sha256))

    def remove(self, sha256: str) -> None:
        """Ends a file that was set aside."""
        (self._folder / _ASIDE / sha256).unlink(missing_ok=True)

    def aside(self) -> list[str]:
        """Files that are set aside; a server that was killed may have left some."""
        return [path.name for path in (self._folder / _ASIDE).iterdir()]

    def all(self) -> Iterator[tuple[str, int, float]]:
        """(SHA-256, bytes, seconds since it was written) of every file, in no order."""
        for folder in self._folder.glob("[0-9a-f][0-9a-f]"):
            for path in folder.iterdir():
                with suppress(FileNotFoundError):
                    facts = path.stat()
                    yield path.name, facts.st_size, time.time() - facts.st_mtime

    def sweep(self, *, older_than_s: float) -> int:
        """Removes what arrived only in part, left by a server that was killed; how many files that was."""
        before, removed = time.time() - older_than_s, 0
        for path in (self._folder / _INCOMING).iterdir():
            with suppress(FileNotFoundError):
                if path.stat().st_mtime <= before:
                    path.unlink()
                    removed += 1
        return removed

    def _path(self, sha256: str) -> Path:
        return self._folder / sha256[:2] / sha256

    def _keep(self, arrived: Path, sha256: str, size: int) -> StoredFile:
        path = self._path(sha256)
        if path.is_file():
            return StoredFile(sha256=sha256, size=size, path=path, is_new=False)
        path.parent.mkdir(exist_ok=True, mode=0o700)
        arrived.rename(path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)  # a file that was acknowledged survives the machine
        finally:
            os.close(folder)
        return StoredFile(sha256=sha256, size=size, path=path, is_new=True)


async def _copy(chunks: AsyncIterable[bytes], file: BinaryIO, *, max_bytes: int, chunk_s: float) -> tuple[str, int]:
    digest, size = hashlib.sha256(), 0

    def take(chunk: bytes) -> None:
        digest.update(chunk)
        view = memoryview(chunk)
        while view:
            view = view[file.write(view) :]

    async for chunk in _in_time(chunks, chunk_s):
        size += len(chunk)
        if size > max_bytes:
            raise MediaRefused(Code.TOO_LARGE)
        await asyncio.to_thread(take, chunk)
    if not size:
        raise MediaRefused(Code.EMPTY)
    return digest.hexdigest(), size


async def _in_time(chunks: AsyncIterable[bytes], chunk_s: float) -> AsyncIterator[bytes]:
    iterator = aiter(chunks)
    while True:
        try:
            async with asyncio.timeout(chunk_s):
                chunk = await anext(iterator)
        except StopAsyncIteration:
            return
        except TimeoutError as error:
            raise StallError(f"media upload: no bytes came for {chunk_s:g} s") from error
        yield chunk
