"""How much of a body is read, and for how long."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from starlette.types import Message, Receive, Scope, Send

from services.gateway import body
from services.gateway.body import BodyLimit
from services.gateway.problems import Problem

LIMIT = 1000


class Reader:
    """An application that reads the whole body."""

    def __init__(self) -> None:
        self.got = b""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            self.got += message.get("body", b"")
            if not message.get("more_body", False):
                return


class Sender:
    """A caller; counts what is taken from it."""

    def __init__(self, chunks: AsyncIterator[bytes]) -> None:
        self._chunks, self.taken = chunks, 0

    async def __call__(self) -> Message:
        try:
            chunk = await anext(self._chunks)
        except StopAsyncIteration:
            return {"type": "http.request", "body": b"", "more_body": False}
        self.taken += len(chunk)
        return {"type": "http.request", "body": chunk, "more_body": True}


async def repeat(chunk: bytes, times: int, *, every_s: float = 0.0) -> AsyncIterator[bytes]:
    for _ in range(times):
        await asyncio.sleep(every_s)
        yield chunk


async def nothing(message: Message) -> None:
    raise AssertionError("no answer is sent from here")


async def run(sender: Any, *, path: str = "/v1/score", limit: BodyLimit | None = None, **headers: str) -> bytes:
    reader = Reader()
    layer = limit or BodyLimit(reader, max_bytes=LIMIT, max_file_bytes=10 * LIMIT, uploads="/v1/files")
    layer._app = reader
    named = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    await layer({"type": "http", "method": "POST", "path": path, "headers": named}, sender, nothing)
    return reader.got


async def code_of(awaitable: Any) -> str:
    with pytest.raises(Problem) as raised:
        await awaitable
    assert raised.value.headers == {"Connection": "close"}
    return raised.value.kind.code


async def test_a_body_within_the_limit_passes_whole() -> None:
    assert await run(Sender(repeat(b"x" * 100, 10)), transfer_encoding="chunked") == b"x" * LIMIT


async def test_a_body_that_is_announced_as_too_large_is_not_read() -> None:
    sender = Sender(repeat(b"x" * 100, 11))
    assert await code_of(run(sender, content_length="1001")) == "content_too_large"
    assert sender.taken == 0


async def test_an_endless_body_is_cut_at_the_limit() -> None:
    sender = Sender(repeat(b"x" * 100, 10**9))
    assert await code_of(run(sender, transfer_encoding="chunked")) == "content_too_large"
    assert sender.taken == LIMIT + 100


async def test_a_length_that_is_too_small_does_not_raise_the_limit() -> None:
    sender = Sender(repeat(b"x" * 100, 10**9))
    assert await code_of(run(sender, content_length="10")) == "content_too_large"
    assert await code_of(run(sender, content_length="10", transfer_encoding="chunked")) == "content_too_large"


@pytest.mark.parametrize("length", ["-1", "1e3", "", "9" * 30, "٣"])
async def test_a_length_that_is_no_number_is_refused(length: str) -> None:
    assert await code_of(run(Sender(repeat(b"", 1)), content_length=length)) == "bad_request"


async def test_uploads_have_a_limit_of_their_own() -> None:
    assert len(await run(Sender(repeat(b"x" * 100, 100)), path="/v1/files")) == 10 * LIMIT
    assert await code_of(run(Sender(repeat(b"x" * 100, 101)), path="/v1/files")) == "content_too_large"


async def test_a_body_that_stops_coming_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body, "CHUNK_S", 0.01)
    assert await code_of(run(Sender(repeat(b"x", 1, every_s=60)))) == "request_timeout"


async def test_a_body_that_trickles_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body, "GRACE_S", 0.05)
    assert await code_of(run(Sender(repeat(b"x", 10**9, every_s=0.001)))) == "request_timeout"


async def test_many_bodies_together_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body, "BODIES_AT_ONCE", 2)
    layer = BodyLimit(Reader(), max_bytes=LIMIT, max_file_bytes=LIMIT, uploads="/v1/files")
    layer._held = 2 * LIMIT - 50
    assert await code_of(run(Sender(repeat(b"x" * 100, 1)), limit=layer)) == "queue_full"
    assert layer._held == 2 * LIMIT - 50
