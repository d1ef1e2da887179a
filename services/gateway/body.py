"""Bodies of requests: capped while they arrive, and timed. Nothing is read of one that is announced as too large."""

from __future__ import annotations

import asyncio
import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.gateway.problem_kinds import BAD_REQUEST, CONTENT_TOO_LARGE, QUEUE_FULL, REQUEST_TIMEOUT
from services.gateway.problems import Problem

CHUNK_S = 10.0
GRACE_S = 20.0
SLOWEST_BYTES_PER_S = 16 * 1024
BODIES_AT_ONCE = 8
_SHORT_DIGITS = 5
_CLOSE = {"Connection": "close"}


class BodyLimit:
    """Stands between the server and whoever reads bodies.

    Args:
        max_bytes: of one body.
        max_file_bytes: of one body that is an upload; those are written to disk as they come.
        uploads: the path of uploads.
    """

    def __init__(self, app: ASGIApp, *, max_bytes: int, max_file_bytes: int, uploads: str) -> None:
        self._app, self._max_bytes, self._max_file_bytes, self._uploads = app, max_bytes, max_file_bytes, uploads
        self._held = 0  # bytes in memory, of all bodies that are being worked on

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        is_upload = scope["path"] == self._uploads
        limit = self._max_file_bytes if is_upload else self._max_bytes
        length = _announced(scope)
        if length is not None and length > limit:
            raise Problem(CONTENT_TOO_LARGE, headers=_CLOSE)
        if length == 0:
            return await self._app(scope, receive, send)
        body = _Body(receive, limit)
        try:
            await self._app(scope, body.receive if is_upload else self._held_by(body), send)
        finally:
            if not is_upload:
                self._held -= body.received

    def _held_by(self, body: _Body) -> Receive:
        async def receive() -> Message:
            before = body.received
            try:
                return await body.receive()
            finally:
                self._held += body.received - before
                if self._held > BODIES_AT_ONCE * self._max_bytes:
                    raise Problem(QUEUE_FULL, retry_after_s=1, headers=_CLOSE)

        return receive


class _Body:
    """One body as it comes."""

    def __init__(self, receive: Receive, max_bytes: int) -> None:
        self._receive, self._max_bytes = receive, max_bytes
        self._begun = time.monotonic()
        self._is_whole = False
        self.received = 0

    async def receive(self) -> Message:
        """The next part of it. Once it is whole, what comes is the caller going away, which may take any time."""
        if self._is_whole:
            return await self._receive()
        try:
            async with asyncio.timeout(min(CHUNK_S, self._time_left())):
                message = await self._receive()
        except TimeoutError as error:
            raise Problem(REQUEST_TIMEOUT, headers=_CLOSE) from error
        if message["type"] == "http.request":
            self.received += len(message.get("body", b""))
            self._is_whole = not message.get("more_body", False)
        if self.received > self._max_bytes:
            raise Problem(CONTENT_TOO_LARGE, headers=_CLOSE)
        return message

    def _time_left(self) -> float:
        """A body that trickles is slow even if its next byte is never late."""
        allowed = GRACE_S + self.received / SLOWEST_BYTES_PER_S
        return max(0.0, self._begun + allowed - time.monotonic())


def has_large_body(scope: Scope) -> bool:
    """Whether a request may have more of a body than is worth taking for the sake of its connection."""
    lengths = [value for name, value in scope["headers"] if name == b"content-length"]
    is_chunked = any(name == b"transfer-encoding" for name, _ in scope["headers"])
    return is_chunked or any(not length.isdigit() or len(length) > _SHORT_DIGITS for length in lengths)


def _announced(scope: Scope) -> int | None:
    """The length that a request claims for its body; None if it comes in chunks."""
    lengths, is_chunked = [], False
    for name, value in scope["headers"]:
        if name == b"content-length":
            lengths.append(value)
        elif name == b"transfer-encoding":
            is_chunked = True
    if is_chunked:
        return None
    if not lengths:
        return 0 if scope["method"] in ("GET", "HEAD", "DELETE", "OPTIONS", "TRACE") else None
    if len(lengths) > 1 or not lengths[0].isdigit() or len(lengths[0]) > 18:
        raise Problem(BAD_REQUEST, "The header Content-Length is not one number.", headers=_CLOSE)
    return int(lengths[0])
