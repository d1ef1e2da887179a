"""Uploads and streams over real connections."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import pytest
import pytest_asyncio

from services.gateway import body, files_check
from services.serve_config import ServeConfig
from services.serving.http_server import HttpServer, bind
from tests.services.gateway.conftest import Service
from tests.services.gateway.test_files import on_disk, sha256
from tests.services.gateway.test_jobs import ASYNC, HeldModel, held, request  # noqa: F401
from tests.services.in_process_model import InProcessModels
from tests.services.media.clips import clip

pytestmark = pytest.mark.asyncio(loop_scope="module")

MIB = 2**20
LIMIT_S = 30.0


class Counted:
    """Between server and application: how many bytes of bodies were read."""

    def __init__(self, app: Any) -> None:
        self._app, self.received = app, 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def receiving() -> Any:
            message = await receive()
            self.received += len(message.get("body", b""))
            return message

        await self._app(scope, receiving, send)


class Listening:
    """A service on a port."""

    def __init__(self, service: Service, app: Counted, port: int) -> None:
        self.service, self.app, self.port = service, app, port

    async def open(self, head: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection on which a request has begun: its first line, and headers that follow ours."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        line, _, rest = head.partition("\n")
        headers = ["Host: localhost", f"Authorization: Bearer {self.service.admin}", *rest.splitlines(), "", ""]
        writer.write("\r\n".join([f"{line} HTTP/1.1", *headers]).encode())
        await writer.drain()
        return reader, writer


@pytest_asyncio.fixture(loop_scope="module")
async def listen(make_service: Any) -> AsyncIterator[Any]:
    servers: list[HttpServer] = []

    async def make(**config: Any) -> Listening:
        service = await make_service(**config)
        app, bound = Counted(service.app), bind(ServeConfig(port=0))
        servers.append(HttpServer(app, drain_s=1))
        await servers[-1].start(bound)
        return Listening(service, app, bound.getsockname()[1])

    yield make
    for server in servers:
        await server.stop()


def answer_of(data: bytes) -> tuple[int, dict[str, Any]]:
    head, _, text = data.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(text)


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


async def test_an_endless_upload_is_cut_within_a_mebibyte_of_the_limit(listen: Any) -> None:
    listening = await listen(media={"max_bytes": 2 * MIB})

    def send_without_end() -> bytes:
        head = ["POST /v1/files HTTP/1.1", "Host: localhost", f"Authorization: Bearer {listening.service.admin}"]
        more = ["Content-Type: video/mp4", "Transfer-Encoding: chunked", "", ""]
        with socket.create_connection(("127.0.0.1", listening.port), timeout=LIMIT_S) as connection:
            connection.sendall("\r\n".join(head + more).encode() + chunk(clip()))
            with suppress(ConnectionError):
                while True:
                    connection.sendall(chunk(bytes(MIB // 4)))
            answer = b""
            with suppress(ConnectionError):
                while part := connection.recv(65536):
                    answer += part
            return answer

    status, problem = answer_of(await asyncio.to_thread(send_without_end))
    assert (status, problem["code"]) in ((413, "video_too_large"), (413, "content_too_large"))
    assert listening.app.received <= 3 * MIB and not on_disk(listening.service)


async def test_an_upload_that_is_announced_as_too_large_is_not_read(listen: Any) -> None:
    listening = await listen(media={"max_bytes": MIB})
    reader, writer = await listening.open(f"POST /v1/files\nContent-Type: video/mp4\nContent-Length: {3 * MIB}")
    async with asyncio.timeout(LIMIT_S):
        status, _ = answer_of(await reader.read())
    writer.close()
    assert status == 413 and listening.app.received == 0


async def test_an_upload_that_stops_coming_is_given_up(listen: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body, "CHUNK_S", 0.1)
    listening = await listen()
    reader, writer = await listening.open("POST /v1/files\nContent-Type: video/mp4\nTransfer-Encoding: chunked")
    writer.write(chunk(clip()))
    async with asyncio.timeout(LIMIT_S):
        status, problem = answer_of(await reader.read())
    writer.close()
    assert (status, problem["code"]) == (408, "request_timeout") and not on_disk(listening.service)


async def test_a_caller_that_goes_away_leaves_nothing(listen: Any) -> None:
    listening = await listen()
    _, writer = await listening.open("POST /v1/files\nContent-Type: video/mp4\nTransfer-Encoding: chunked")
    writer.write(chunk(clip() + bytes(100_000)))
    async with asyncio.timeout(LIMIT_S):
        while not on_disk(listening.service):
            await asyncio.sleep(0.005)
        writer.close()
        while on_disk(listening.service):
            await asyncio.sleep(0.005)


async def test_a_large_file_is_kept_without_a_look_at_it(listen: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files_check, "LARGEST", 10_000)
    listening = await listen()
    data = clip() + bytes(20_000)
    reader, writer = await listening.open(
        f"POST /v1/files\nContent-Type: video/mp4\nContent-Length: {len(data)}\nConnection: close"
    )
    writer.write(data)
    async with asyncio.timeout(LIMIT_S):
        status, file = answer_of(await reader.read())
    writer.close()
    assert (status, file["id"], file["video"]) == (201, sha256(data), None)


class TestStreams:
    async def test_events_come_while_the_job_runs_and_go_on_after_a_break(
        self,
        listen: Any,
        held: HeldModel,  # noqa: F811
    ) -> None:
        listening = await listen(models=InProcessModels({"shapes": held}))
        async with listening.service.client(listening.service.admin) as client:
            job_id = (await client.post("/v1/score", json=request(2), headers=ASYNC)).json()["id"]
        async with asyncio.timeout(LIMIT_S):
            reader, writer = await listening.open(f"GET /v1/jobs/{job_id}/events")
            seen = b""
            while b'"running"' not in seen:
                seen += await reader.read(4096)
            assert b"text/event-stream" in seen and b"id: 1\n" in seen and b'"succeeded"' not in seen
            writer.close()
            while listening.service.gateway.desk.watchers:
                await asyncio.sleep(0.005)
            reader, writer = await listening.open(f"GET /v1/jobs/{job_id}/events\nLast-Event-ID: 1\nConnection: close")
            held.open.set()
            rest = await reader.read()
            writer.close()
        assert b"id: 1\n" not in rest and b"id: 2\n" in rest and b'{"state":"succeeded"}\n\n' in rest

    async def test_whoever_listens_does_not_keep_the_server_from_stopping(self, listen: Any, held: HeldModel) -> None:  # noqa: F811
        listening = await listen(models=InProcessModels({"shapes": held}))
        async with listening.service.client(listening.service.admin) as client:
            job_id = (await client.post("/v1/score", json=request(), headers=ASYNC)).json()["id"]
        async with asyncio.timeout(LIMIT_S):
            reader, writer = await listening.open(f"GET /v1/jobs/{job_id}/events")
            await reader.readuntil(b"id: 1\n")
            listening.service.gateway.desk.close()
            await reader.readuntil(b"0\r\n\r\n")
        writer.close()
        held.open.set()
