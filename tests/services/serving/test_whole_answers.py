"""Over a real connection: what arrives is what uvicorn would have sent."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from services.serve_config import ServeConfig
from services.serving import http_protocol
from services.serving.http_server import HttpServer, bind

PLAIN = [(b"content-type", b"application/json"), (b"x-frame-options", b"DENY")]
ASK = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
LAST = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


class Says:
    """An application that answers each request with the same messages."""

    def __init__(self, status: int, headers: Sequence[tuple[bytes, bytes]], *parts: bytes) -> None:
        self.head = {"type": "http.response.start", "status": status, "headers": list(headers)}
        self.parts = parts

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            for _ in range(2):
                message = await receive()
                await send({"type": f"{message['type']}.complete"})
            return
        await send(self.head)
        for number, part in enumerate(self.parts, 1):
            await send({"type": "http.response.body", "body": part, "more_body": number < len(self.parts)})


async def heard(app: Says, sent: bytes) -> bytes:
    """All that the server says until it closes, without dates."""
    server, bound = HttpServer(app, drain_s=5), bind(ServeConfig(port=0))
    await server.start(bound)
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", bound.getsockname()[1])
        writer.write(sent)
        async with asyncio.timeout(20):
            answer = await reader.read()
        writer.close()
    finally:
        await server.stop()
    return b"\r\n".join(line for line in answer.split(b"\r\n") if not line.lower().startswith(b"date:"))


LENGTH_2 = (b"content-length", b"2")


@pytest.mark.parametrize(
    ("app", "sent"),
    [
        (Says(200, [*PLAIN, LENGTH_2], b"ok"), ASK + LAST),
        (Says(200, [*PLAIN, LENGTH_2], b"ok"), ASK * 5 + LAST),
        (Says(422, [*PLAIN, LENGTH_2, (b"Retry-After", b"3")], b"no"), ASK + LAST),
        (Says(200, [*PLAIN, LENGTH_2], b"ok"), LAST),
        (Says(200, [*PLAIN, LENGTH_2], b"o", b"k"), ASK + LAST),
        (Says(200, [*PLAIN, LENGTH_2, (b"connection", b"close")], b"ok"), ASK),
        (Says(200, PLAIN, b"in ", b"chunks"), ASK + LAST),
        (Says(200, PLAIN, b""), ASK + LAST),
        (Says(204, PLAIN, b""), ASK + LAST),
        (Says(304, [*PLAIN, (b"content-length", b"0")], b""), ASK + LAST),
        (Says(200, [*PLAIN, (b"content-length", b"0")], b""), ASK + LAST),
        (Says(200, [*PLAIN, LENGTH_2], b"ok"), ASK.replace(b"GET", b"HEAD") + LAST),
        (Says(200, [*PLAIN, LENGTH_2], b"ok"), ASK.replace(b"1.1", b"1.0")),
        (Says(200, [*PLAIN, LENGTH_2], b"too long"), ASK),
        (Says(200, [*PLAIN, LENGTH_2], b"s"), ASK),
        (Says(200, [*PLAIN, LENGTH_2, (b"x-request-id", b"a\r\nevil: 1")], b"ok"), ASK),
        (Says(200, [*PLAIN, LENGTH_2, (b"x bad", b"name")], b"ok"), ASK),
    ],
)  # fmt: skip
async def test_an_answer_is_what_it_would_be_in_pieces(app: Says, sent: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = await heard(app, sent)
    monkeypatch.setattr(http_protocol, "whole_answers", lambda cycle: cycle.send)
    in_pieces = await heard(app, sent)
    assert b"evil" not in whole
    if whole.startswith(b"HTTP/1.1 500"):  # a fault that is noticed before anything is written can be told
        assert not in_pieces or in_pieces.startswith((b"HTTP/1.1 500", b"HTTP/1.1 200"))
    else:
        assert whole == in_pieces and whole
