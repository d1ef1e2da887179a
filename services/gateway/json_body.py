"""Bodies that are JSON: one reading, strict, in which nothing has two meanings."""

from __future__ import annotations

import asyncio
import json
from typing import Any, NoReturn

from starlette.requests import ClientDisconnect, Request

from services.gateway.problem_kinds import CONTENT_TOO_LARGE, INVALID, MALFORMED_JSON, UNSUPPORTED_MEDIA_TYPE
from services.gateway.problems import Problem

# What is read takes many times the memory of what is sent, unless there is little of it but long strings.
_MOST_OBJECTS, _MOST_PARTS, _MOST_MEMBERS = 50_000, 1_000_000, 64
_LARGE = 256 * 1024  # bytes; above it others are let in meanwhile


async def json_body(request: Request) -> Any:
    """The value that the body is.

    Raises:
        Problem: it is not said to be JSON, or is none.
    """
    _check_headers(request)
    body = await _whole(request)
    return parsed(body) if len(body) < _LARGE else await asyncio.to_thread(parsed, body)


async def _whole(request: Request) -> bytes:
    """Mostly it comes in one piece."""
    pieces: list[bytes] = []
    while True:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        pieces.append(message.get("body", b""))
        if not message.get("more_body", False):
            return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def parsed(body: bytes) -> Any:
    """RFC 8259 in UTF-8. Neither NaN nor Infinity, and no name twice in an object.

    Raises:
        Problem: it is something else, or nested too deep.
    """
    if len(body) > _MOST_OBJECTS and (body.count(b"{") > _MOST_OBJECTS or body.count(b",") > _MOST_PARTS):
        raise Problem(CONTENT_TOO_LARGE, "The body has more parts than this server takes.")
    try:
        return _DECODER.decode(body.decode())
    except (ValueError, RecursionError):
        pass
    raise Problem(MALFORMED_JSON)  # outside of the handler: the cause has the whole body in it


def _check_headers(request: Request) -> None:
    """Pages of other origins can send text/plain without being asked, but not JSON."""
    kinds, encodings = [], []
    for name, value in request.scope["headers"]:  # once: each look-up would go through them
        if name == b"content-type":
            kinds.append(value)
        elif name == b"content-encoding":
            encodings.append(value)
    if len(kinds) != 1 or kinds[0].partition(b";")[0].strip().lower() != b"application/json":
        raise Problem(UNSUPPORTED_MEDIA_TYPE)
    if encodings and encodings[0] != b"identity":
        raise Problem(UNSUPPORTED_MEDIA_TYPE, "Bodies must not be compressed.")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError
    if len(value) > _MOST_MEMBERS:
        raise Problem(INVALID, "An object in the body has more members than any that this server knows.")
    return value


def _refuse(constant: str) -> NoReturn:
    raise ValueError


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_refuse)
