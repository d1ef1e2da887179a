"""Videos in object stores: `NAME/path/clip.mp4` below the roots that the configuration names, and nothing else."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from enum import StrEnum
from typing import Any, BinaryIO, cast
from urllib.parse import unquote

import fsspec
from fsspec.implementations.local import LocalFileSystem

from policies.errors import InputError, OnlineVPOError
from services.gateway.uris_local import LocalRoot
from services.media.refusal import Code, MediaRefused

LONGEST = 1024
READERS = 8
"""Reads at the same time. One that hangs keeps its thread until the object store lets go of it."""

_CHUNK = 2**20
_WITH_A_MEANING = ("\\", "?", "#", "*", "::", "://")  # to one filesystem of fsspec or another


class UriCode(StrEnum):
    """Why a video could not be fetched."""

    NOT_ALLOWED = "uri_not_allowed"
    NOT_FOUND = "uri_not_found"
    UNAVAILABLE = "uri_unavailable"

    @property
    def is_retryable(self) -> bool:
        return self is UriCode.UNAVAILABLE


_SENTENCES = {
    UriCode.NOT_ALLOWED: "The URI is not a plain path below one of the roots that this server knows.",
    UriCode.NOT_FOUND: "There is no video under this URI, or this server may not read it.",
    UriCode.UNAVAILABLE: "The object store did not give the video in time.",
}


class UriRefused(OnlineVPOError, RuntimeError):
    """`code` says why; the message is that code's sentence, whatever the URI was."""

    def __init__(self, code: UriCode) -> None:
        super().__init__(_SENTENCES[code])
        self.code = code


class _RemoteRoot:
    """A prefix in an object store, or wherever fsspec reaches."""

    def __init__(self, filesystem: Any, prefix: str) -> None:
        self._filesystem, self._prefix = filesystem, prefix.rstrip("/")

    def open(self, path: str) -> BinaryIO:
        return cast(BinaryIO, self._filesystem.open(f"{self._prefix}/{path}", "rb"))


class UriRoots:
    """The roots by their names. Whatever credentials they need is the environment's business."""

    def __init__(self, roots: Mapping[str, str]) -> None:
        """Raises InputError for a root that cannot be used: its scheme needs a package, its folder is not there."""
        self._roots = {name: _root(name, url) for name, url in roots.items()}
        self._threads = ThreadPoolExecutor(max_workers=READERS, thread_name_prefix="uris")

    async def read(self, uri: str, *, max_bytes: int, deadline: float) -> bytes:
        """The whole video.

        Args:
            deadline: of time.monotonic(); it holds for the caller, whatever the object store does.
        Raises:
            UriRefused: the URI leads nowhere that is allowed, or to nothing, or the object store is too slow.
            MediaRefused: there are more bytes than `max_bytes`; no more than a chunk beyond them was read.
        """
        name, path = checked(uri)
        root = self._roots.get(name)
        if root is None:
            raise UriRefused(UriCode.NOT_ALLOWED)
        reading = asyncio.get_running_loop().run_in_executor(self._threads, _read, root, path, max_bytes, deadline)
        try:
            async with asyncio.timeout(deadline - time.monotonic()):
                return await reading
        except TimeoutError:
            raise UriRefused(UriCode.UNAVAILABLE) from None

    def close(self) -> None:
        """Begins no other read; does not wait for those that hang."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def checked(uri: str) -> tuple[str, str]:
    """(name of the root, path below it), for a path that means the same to every filesystem.

    Raises:
        UriRefused: it has a part that could lead elsewhere, also after its escapes are undone.
    """
    plain = uri
    for _ in range(LONGEST):
        if not _is_plain(plain):
            raise UriRefused(UriCode.NOT_ALLOWED)
        if (plain := unquote(earlier := plain)) == earlier:
            break
    name, _, path = uri.partition("/")
    return name, path


def _is_plain(uri: str) -> bool:
    if not uri.isprintable() or len(uri.encode()) > LONGEST:
        return False
    name, *parts = uri.split("/")
    return bool(parts) and all(part.strip(" .") for part in (name, *parts)) and not any(
        sign in uri for sign in _WITH_A_MEANING
    )  # fmt: skip


def _root(name: str, url: str) -> LocalRoot | _RemoteRoot:
    try:
        filesystem, path = fsspec.url_to_fs(url)
    except Exception as error:  # each scheme's package fails in ways of its own
        raise InputError(
            f"uri_roots.{name}: {url!r} cannot be used ({error}); install what its scheme needs"
        ) from error
    if not isinstance(filesystem, LocalFileSystem):
        return _RemoteRoot(filesystem, path)
    try:
        return LocalRoot(path)
    except OSError as error:
        raise InputError(f"uri_roots.{name}: the folder {path} cannot be read: {error}") from error


def _read(root: LocalRoot | _RemoteRoot, path: str, max_bytes: int, deadline: float) -> bytes:
    """A video's bytes, read in another thread; ends soon after the deadline, where the filesystem lets it."""
    data = bytearray()
    try:
        with root.open(path) as file:
            while chunk := file.read(min(_CHUNK, max_bytes + 1 - len(data))):
                data += chunk
                if len(data) > max_bytes:
                    raise MediaRefused(Code.TOO_LARGE)
                if time.monotonic() > deadline:
                    raise UriRefused(UriCode.UNAVAILABLE)
    except (MediaRefused, UriRefused):
        raise
    except (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError):
        raise UriRefused(UriCode.NOT_FOUND) from None
    except Exception:  # the message has the path in it, or worse
        raise UriRefused(UriCode.UNAVAILABLE) from None
    return bytes(data)
