"""The bytes of a file, whole or in part."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import BinaryIO

from starlette.responses import Response, StreamingResponse

from services.gateway.problem_kinds import FILE_NOT_FOUND, kind
from services.gateway.problems import Problem

_CHUNK = 256 * 1024
_ONE_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.ASCII)

RANGE_NOT_SATISFIABLE = kind(
    "range_not_satisfiable", 416, "No such range", "The file has none of the bytes that the Range header asks for.",
    "Content-Range says how many bytes the file has.",
)  # fmt: skip


async def content(path: Path | None, *, sha256: str, media_type: str, headers: Mapping[str, str]) -> Response:
    """The answer to whoever asks for a file, with the request's headers.

    Raises:
        Problem: the bytes are not there, or not in the range that is asked for.
    """
    etag = f'"{sha256}"'
    ours = {
        "ETag": etag,
        "Accept-Ranges": "bytes",
        "Cache-Control": "private, no-cache",
        "Content-Disposition": f'attachment; filename="{sha256}.{media_type.rpartition("/")[2]}"',
    }
    if etag in _tags(headers.get("if-none-match", "")) or headers.get("if-none-match") == "*":
        return Response(status_code=304, headers=ours)
    try:
        file = await asyncio.to_thread(_open, path)
    except FileNotFoundError as error:
        raise Problem(FILE_NOT_FOUND) from error
    file_size = file.seek(0, 2)
    wanted = _range(headers.get("range"), file_size) if headers.get("if-range", etag) == etag else None
    first, last = wanted or (0, file_size - 1)
    if first > last:
        file.close()
        raise Problem(RANGE_NOT_SATISFIABLE, headers={"Content-Range": f"bytes */{file_size}"})
    ours["Content-Length"] = str(last - first + 1)
    if wanted is not None:
        ours["Content-Range"] = f"bytes {first}-{last}/{file_size}"
    return StreamingResponse(
        _part(file, first, last), status_code=206 if wanted else 200, media_type=media_type, headers=ours
    )


def _open(path: Path | None) -> BinaryIO:
    if path is None:
        raise FileNotFoundError
    return path.open("rb", buffering=0)


def _tags(header: str) -> list[str]:
    return [tag.strip().removeprefix("W/") for tag in header.split(",")]


def _range(header: str | None, size: int) -> tuple[int, int] | None:
    """(first byte, last byte); None: all of it, also for several ranges and for what is no range. An empty one (first
    beyond last) is one that the file does not have."""
    match = _ONE_RANGE.fullmatch(header or "")
    if match is None or match.groups() == ("", ""):
        return None
    first, last = match.groups()
    if not first:
        return max(0, size - int(last)), size - 1
    if last and int(last) < int(first):
        return None
    return int(first), min(int(last or size), size - 1)


async def _part(file: BinaryIO, first: int, last: int) -> AsyncIterator[bytes]:
    try:
        await asyncio.to_thread(file.seek, first)
        left = last - first + 1
        while left and (chunk := await asyncio.to_thread(file.read, min(_CHUNK, left))):
            left -= len(chunk)
            yield chunk
    finally:
        file.close()
