import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from policies.errors import InputError
from services.serve_config import ServeConfig
from services.serving import http_protocol, lingering
from services.serving.http_server import HttpServer, bind, url_of

ANY_PORT = ServeConfig(port=0)


class App:
    """Answers with the length of the body; for /slow only after `go`, for /refuse and /early without a look at it, and
    for /long at length."""

    def __init__(self) -> None:
        self.go, self.begun = asyncio.Event(), asyncio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            for _ in range(2):
                message = await receive()
                await send({"type": f"{message['type']}.complete"})
            return
        if scope["path"] in ("/refuse", "/early"):
            headers = [(b"connection", b"close")] if scope["path"] == "/refuse" else []
            await send({"type": "http.response.start", "status": 422, "headers": headers})
            await send({"type": "http.response.body", "body": b"no"})
            return
        if scope["path"] == "/long":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": bytes(32_000_000)})
            return
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        if scope["path"] == "/slow":
            self.begun.set()
            await self.go.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"%d bytes" % len(body)})


class Running:
    def __init__(self, app: App, server: HttpServer, port: int) -> None:
        self.app, self.server, self.port = app, server, port

    async def talk(self, *parts: bytes) -> bytes:
        """Sends the parts and reads until the server closes, or has answered a request that says it is the last."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        for part in parts:
            writer.write(part)
            await writer.drain()
        try:
            return await reader.read()
        finally:
            writer.close()


@pytest.fixture
async def running() -> AsyncIterator[Running]:
    app = App()
    server = HttpServer(app, drain_s=5)
    bound = bind(ANY_PORT)
    await server.start(bound)
    yield Running(app, server, bound.getsockname()[1])
    app.go.set()
    await server.stop()


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not is_so():
            await asyncio.sleep(0.01)


LAST = b"host: a\r\nconnection: close\r\n"


def problem_of(answer: bytes) -> dict[str, Any]:
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ") and b"application/problem+json" in head
    problem: dict[str, Any] = json.loads(body)
    return problem


async def test_a_request_is_answered_and_nothing_says_what_software_did(running: Running) -> None:
    answer = await running.talk(b"POST / HTTP/1.1\r\ncontent-length: 3\r\n" + LAST + b"\r\nabc")
    assert answer.startswith(b"HTTP/1.1 200 ") and answer.endswith(b"3 bytes\r\n0\r\n\r\n")
    assert b"uvicorn" not in answer.lower()


@pytest.mark.parametrize(
    "parts",
    [
        [b"GET / HTTP/1.1\r\nx: " + b"a" * 40_000],
        [b"GET / HTTP/1.1\r\n" + b"x: a\r\n" * 9000 + LAST + b"\r\n"],
        [b"GET /" + b"a" * 40_000 + b" HTTP/1.1\r\n" + LAST + b"\r\n"],
        [b"GET / HTTP/1.1\r\nx: ", *[b"a" * 8000] * 5],
        [b"no http\r\n\r\n"],
        [b"CONNECT 127.0.0.1:22 HTTP/1.1\r\n" + LAST + b"\r\n"],
        [b"\x16\x03\x01\x02\x00"],
    ],
    ids=["one endless header", "many headers", "long path", "header in parts", "no http", "connect", "tls"],
)
async def test_what_is_no_reasonable_request_is_a_problem_and_the_end(parts: list[bytes], running: Running) -> None:
    assert problem_of(await running.talk(*parts))["code"] == "bad_request"


async def test_a_body_may_be_longer_than_headers(running: Running) -> None:
    answer = await running.talk(b"POST / HTTP/1.1\r\ncontent-length: 100000\r\n" + LAST + b"\r\n", b"a" * 100_000)
    assert b"100000 bytes" in answer


@pytest.mark.parametrize("pause_s", [0.0, 0.1], ids=["at once", "after the answer"])
async def test_whoever_sends_on_after_a_refusal_can_still_read_it(pause_s: float, running: Running) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
    writer.write(b"POST /refuse HTTP/1.1\r\nhost: a\r\ncontent-length: 30000000\r\n\r\n")
    for _ in range(30):
        writer.write(bytes(1_000_000))
        await writer.drain()
        await asyncio.sleep(pause_s / 30)
    answer = await reader.read()
    assert answer.startswith(b"HTTP/1.1 422 ") and answer.endswith(b"\r\n2\r\nno\r\n0\r\n\r\n")
    writer.close()


async def test_whoever_keeps_sending_after_a_refusal_is_cut_off(
    monkeypatch: pytest.MonkeyPatch, running: Running
) -> None:
    monkeypatch.setattr(lingering, "LINGER_S", 0.05)
    _, writer = await asyncio.open_connection("127.0.0.1", running.port)
    writer.write(b"POST /refuse HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n")
    with pytest.raises(ConnectionError):
        while True:
            writer.write(b"1\r\na\r\n")
            await writer.drain()
            await asyncio.sleep(0.005)


async def test_a_request_that_was_answered_early_must_end_soon(
    monkeypatch: pytest.MonkeyPatch, running: Running
) -> None:
    monkeypatch.setattr(http_protocol, "HEADERS_S", 0.05)
    monkeypatch.setattr(lingering, "LINGER_S", 0.05)
    answer = await running.talk(b"POST /early HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\n", b"a", b"b")
    assert answer.startswith(b"HTTP/1.1 422 ")


async def test_its_connection_goes_on_if_it_does(running: Running) -> None:
    early = b"POST /early HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\n"
    answer = await running.talk(early, b"0123456789", b"GET /more HTTP/1.1\r\n" + LAST + b"\r\n")
    assert answer.count(b"HTTP/1.1 422 ") == answer.count(b"HTTP/1.1 200 ") == 1


@pytest.mark.parametrize("last", [b"", LAST])
async def test_an_answer_that_nobody_reads_is_given_up(
    last: bytes, monkeypatch: pytest.MonkeyPatch, running: Running
) -> None:
    for where, name in ((http_protocol, "WRITE_S"), (lingering, "FLUSH_S")):
        monkeypatch.setattr(where, name, 0.05)
    with socket.create_connection(("127.0.0.1", running.port)) as client:
        client.sendall(b"GET /long HTTP/1.1\r\nhost: a\r\n" + last + b"\r\n")
        await until(lambda: bool(running.server.server_state.connections))
        await until(lambda: not running.server.server_state.connections)


@pytest.mark.parametrize(
    "more", [b"GET /slow HTTP/1.1\r\nhost: a\r\n\r\n" * 200, b"no http\r\n\r\n"], ids=["too many", "no http"]
)
async def test_what_comes_behind_a_request_that_runs_is_never_answered_in_its_place(
    more: bytes, running: Running
) -> None:
    try:
        answer = await running.talk(b"GET /slow HTTP/1.1\r\nhost: a\r\n\r\n", more)
    except ConnectionResetError:
        answer = b""
    assert answer == b""


async def test_some_requests_may_be_sent_ahead(running: Running) -> None:
    answer = await running.talk(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n" * 50 + b"GET / HTTP/1.1\r\n" + LAST + b"\r\n")
    assert answer.count(b"HTTP/1.1 200 ") == 51


async def test_headers_that_do_not_come_end_the_connection(monkeypatch: pytest.MonkeyPatch, running: Running) -> None:
    monkeypatch.setattr(http_protocol, "HEADERS_S", 0.05)
    assert await running.talk() == b""
    assert await running.talk(b"GET / HTTP/1.1\r\nx: ") == b""


async def test_stopping_finishes_what_runs_and_takes_nothing_new(running: Running) -> None:
    slow = asyncio.create_task(running.talk(b"GET /slow HTTP/1.1\r\nhost: a\r\n\r\n"))
    await running.app.begun.wait()
    stopping = asyncio.create_task(running.server.stop())
    while True:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", running.port)
        except ConnectionError:
            break
        writer.close()
        await asyncio.sleep(0.01)
    running.app.go.set()
    await stopping
    assert (await slow).startswith(b"HTTP/1.1 200 ")


def test_an_address_that_cannot_be_taken_is_told_with_what_to_do() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(InputError, match=rf"127.0.0.1:{port} is taken by another process; stop it, or choose"):
            bind(ServeConfig(port=port))
    with pytest.raises(InputError, match=r"192\.0\.2\.1:0 is no address of this machine"):
        bind(ServeConfig(host="192.0.2.1", port=0))
    with pytest.raises(InputError, match=r"host 'no\.such\.host\.invalid' cannot be resolved"):
        bind(ServeConfig(host="no.such.host.invalid", port=0))


@pytest.mark.parametrize(("host", "shown"), [("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "127.0.0.1"), ("::1", "[::1]")])
def test_the_url_is_one_that_a_client_here_can_use(host: str, shown: str) -> None:
    with bind(ServeConfig(host=host, port=0)) as bound:
        assert url_of(ServeConfig(host=host), bound) == f"http://{shown}:{bound.getsockname()[1]}"
