"""The videos of a job. It has its files as a caller has theirs: whatever the caller deletes, the job can still read."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import partial
from typing import Any

from cluster.store.files import Files
from services.gateway.files_shelf import Shelf
from services.gateway.problem_kinds import VIDEO
from services.gateway.problems import JsonObject, Problem
from services.gateway.state import Gateway
from services.gateway.videos import data_of
from services.media.refusal import Code, MediaRefused
from services.media.sniff import container_of

_OWNER = "job:"
_AT_ONCE = 16
_PAGE = 200
_SHORT = 1024
_NO_VIDEO = "data:,"  # refused like the data URL in whose place it stands
_CHUNK_S = 60.0


def owner_of(job_id: str) -> str:
    """As whom a job has its files. No API key has such an id."""
    return _OWNER + job_id


def job_of(owner: str) -> str | None:
    """The job that has files under this name, if it is one."""
    return owner.removeprefix(_OWNER) if owner.startswith(_OWNER) else None


async def take_over(gateway: Gateway, value: JsonObject, *, owner: str, job_id: str) -> JsonObject:
    """A request for the store: its inline videos are in the folder, its files are the job's as well.

    What is wrong with an item stays in it, to be found when the job runs.

    Raises:
        Problem: a video is too large, or there is no room for it.
    """
    videos = [item.get("video") if isinstance(item, dict) else None for item in value["items"]]
    inline = {url for video in videos if (url := _only(video, "data")) is not None}
    shared = {file_id for video in videos if (file_id := _only(video, "file_id")) is not None}
    kept: dict[str, JsonObject] = {}

    async def keep(url: str) -> None:
        kept[url] = await _inline(gateway, url, job_id)

    await _some_at_a_time(
        [partial(keep, url) for url in inline]
        + [partial(_share, gateway, file_id, owner=owner, job_id=job_id) for file_id in shared]
    )
    items = [
        item if (url := _only(video, "data")) is None else {**item, "video": kept[url]}
        for item, video in zip(value["items"], videos, strict=True)
    ]
    return {**value, "items": items}


def _only(video: Any, field: str) -> str | None:
    """What a video that consists of one field has in it."""
    is_it = isinstance(video, dict) and len(video) == 1 and isinstance(video.get(field), str)
    return video[field] if is_it else None


async def _some_at_a_time(calls: Sequence[Callable[[], Awaitable[None]]]) -> None:
    """After one that fails no other is begun, and its error goes on once those that were begun are done."""
    left, errors = iter(calls), list[Exception]()

    async def work() -> None:
        for call in left:
            if errors:
                return
            try:
                await call()
            except Exception as error:
                errors.append(error)

    await asyncio.gather(*(work() for _ in range(min(_AT_ONCE, len(calls)))))
    if errors:
        raise errors[0]


async def let_go(shelf: Shelf, files: Files, job_id: str) -> None:
    """A job that has ended, or never came to be, needs no files."""
    owner = owner_of(job_id)
    while (page := await files.page(owner, limit=_PAGE)).items:
        await _some_at_a_time([partial(shelf.take_from, owner, file.sha256) for file in page.items])


async def _share(gateway: Gateway, file_id: str, *, owner: str, job_id: str) -> None:
    file = await gateway.store.files.get(file_id)
    if file is not None and owner in file.owners:
        await gateway.shelf.enter(
            owner_of(job_id), sha256=file.sha256, size=file.size, media_type=file.media_type, facts=file.facts
        )


async def _inline(gateway: Gateway, url: str, job_id: str) -> JsonObject:
    most = gateway.config.media.max_bytes
    try:
        data = await asyncio.to_thread(data_of, url, most)
    except MediaRefused as refused:
        raise Problem(VIDEO[refused.code]) from None
    except Problem:
        data = b""
    if not data:
        return {"data": url if len(url) <= _SHORT else _NO_VIDEO}
    if len(data) > most:
        raise Problem(VIDEO[Code.TOO_LARGE])
    async with gateway.shelf.arriving(_once(data), max_bytes=most, chunk_s=_CHUNK_S) as stored:
        await gateway.shelf.enter(
            owner_of(job_id), sha256=stored.sha256, size=stored.size, media_type=_media_type(data), facts={}
        )
    return {"file_id": stored.sha256}


def _media_type(data: bytes) -> str:
    try:
        return f"video/{container_of(data)}"
    except MediaRefused:
        return "application/octet-stream"  # the item is refused when the job runs


async def _once(data: bytes) -> AsyncIterator[bytes]:
    yield data
