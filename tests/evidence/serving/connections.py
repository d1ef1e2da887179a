"""Connections that are held, flooded or misused, while somebody else's requests go on."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx2
import psutil

from tests.evidence.serving.mutated import whole
from tests.evidence.serving.target import Target, item

Attack = Callable[["Attacker"], Awaitable[None]]
_EVERY_S = 0.05


@dataclass
class Attacker:
    """Opens connections and keeps what came back on them."""

    target: Target
    scale: float
    answers: list[bytes] = field(default_factory=list)

    def many(self, count: int) -> int:
        return max(2, int(count * self.scale))

    def head(self, method: str, path: str, *more: str, key: bool = True) -> bytes:
        lines = [f"{method} {path} HTTP/1.1", "Host: localhost", "Content-Type: application/json", *more]
        if key:
            lines.append(f"Authorization: Bearer {self.target.key}")
        return "\r\n".join([*lines, "", ""]).encode()

    async def talk(self, *parts: bytes, pause_s: float = 0.0, limit_s: float = 30.0, half_close: bool = False) -> bytes:
        """Sends the parts, then reads until the server closes, or for as long as one likes to wait."""
        read = b""
        with contextlib.suppress(OSError, TimeoutError):
            reader, writer = await asyncio.open_connection("127.0.0.1", self.target.port)
            try:
                async with asyncio.timeout(limit_s):
                    for part in parts:
                        writer.write(part)
                        await writer.drain()
                        await asyncio.sleep(pause_s)
                    if half_close:
                        writer.write_eof()
                    while chunk := await reader.read(65536):
                        read += chunk
            finally:
                writer.close()
        self.answers.append(read)
        return read


async def slow_bodies(attack: Attacker) -> None:
    """A byte now and then, of a body that is said to be long."""
    parts = [attack.head("POST", "/v1/score", "Content-Length: 100000"), *[b"{"] * 8]
    await asyncio.gather(*(attack.talk(*parts, pause_s=0.5, limit_s=6) for _ in range(attack.many(200))))


async def slow_headers(attack: Attacker) -> None:
    parts = [b"GET /livez HTTP/1.1\r\n", *[b"x: y\r\n"] * 8]
    await asyncio.gather(*(attack.talk(*parts, pause_s=0.5, limit_s=6) for _ in range(attack.many(200))))


async def endless_bodies(attack: Attacker) -> None:
    """Chunks without an end, to addresses that read bodies and to those that do not, with and without a key."""
    chunk = b"10000\r\n" + b" " * 65536 + b"\r\n"
    for path, key in (("/v1/score", True), ("/v1/files", True), ("/v1/score", False), ("/livez", False)):
        head = attack.head("POST", path, "Transfer-Encoding: chunked", key=key)
        await attack.talk(head, *[chunk] * attack.many(2000), limit_s=20)


async def huge_headers(attack: Attacker) -> None:
    for head in (
        attack.head("GET", "/livez", "X: " + "a" * 1_000_000), attack.head("GET", "/" + "a" * 1_000_000),
        attack.head("GET", "/livez", *[f"X{number}: y" for number in range(50_000)]),
        attack.head("GET", "/livez", *["Authorization: Bearer x"] * 500),
    ):  # fmt: skip
        await attack.talk(head, limit_s=10)


async def idle(attack: Attacker) -> None:
    await asyncio.gather(*(attack.talk(limit_s=4) for _ in range(attack.many(1000))))


async def pipelined(attack: Attacker) -> None:
    """Many requests without waiting for answers; nobody reads the answers to the last ones."""
    last = attack.head("GET", "/livez", "Connection: close")
    await attack.talk(attack.head("GET", "/livez") * 50 + last)
    await attack.talk(attack.head("GET", "/readyz") * 5000, limit_s=5)
    await asyncio.gather(*(_unread(attack) for _ in range(attack.many(50))))


async def _unread(attack: Attacker) -> None:
    with contextlib.suppress(OSError):
        _, writer = await asyncio.open_connection("127.0.0.1", attack.target.port)
        writer.write(attack.head("GET", "/docs/swagger-ui-bundle.js") * 20)
        await asyncio.sleep(2)
        writer.close()


async def half_closed(attack: Attacker) -> None:
    """Nothing more comes: in the middle of a body, of a head, and behind a whole request, which is answered."""
    await attack.talk(attack.head("POST", "/v1/score", "Content-Length: 50"), b"{", half_close=True)
    await attack.talk(b"GET /livez HTTP/1.1\r\nHost", half_close=True)
    await asyncio.gather(
        *(attack.talk(attack.head("GET", "/livez"), half_close=True, limit_s=5) for _ in range(attack.many(50)))
    )


async def reset(attack: Attacker) -> None:
    """Requests whose callers are gone before the answer."""
    body = b'{"items": [' + b"[" * 1000
    for number in range(attack.many(300)):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", attack.target.port)) as client:
            client.sendall(attack.head("POST", "/v1/score", f"Content-Length: {len(body) + number % 2}") + body)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await asyncio.sleep(0)


async def not_http(attack: Attacker) -> None:
    """Other protocols, and requests that proxies and servers understand differently."""
    both = ("Content-Length: 4", "Transfer-Encoding: chunked")
    for data in (
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(600), b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", bytes(5000),
        b"GET /livez\r\n\r\n", attack.head("GET", "/livez", "Upgrade: websocket", "Connection: Upgrade"),
        attack.head("POST", "/v1/score", *both) + b"0\r\n\r\nGET /readyz HTTP/1.1\r\n\r\n",
        attack.head("POST", "/v1/score", "Content-Length: 4", "Content-Length: 40") + b"{}{}",
        attack.head("POST", "/v1/score", "Content-Length: -1") + b"{}",
        attack.head("POST", "/v1/score", "Transfer-Encoding: chunked") + b"zz\r\n{}\r\n",
        attack.head("POST", "/v1/score", "Transfer-Encoding: gzip, chunked") + b"2\r\n{}\r\n0\r\n\r\n",
        attack.head("GET", "/livez\x00"), attack.head("GET", "/livez", "X: \x00\x01"), b"GET /livez HTTP/9.9\r\n\r\n",
        attack.head("CONNECT", "127.0.0.1:22"), attack.head("GET", "http://evil.example/livez"),
    ):  # fmt: skip
        await attack.talk(data, limit_s=1.5)


ATTACKS: tuple[Attack, ...] = (
    slow_bodies, slow_headers, endless_bodies, huge_headers, idle, pipelined, half_closed, reset, not_http,
)  # fmt: skip


async def run(target: Target, *, attacks: Sequence[Attack] = ATTACKS, scale: float = 1.0) -> list[dict[str, Any]]:
    """What somebody else's requests took before and during each attack, and what the server holds after it."""
    rows = []
    async with target.callers(4) as client:
        video = await client.post("/v1/files", content=whole(0), headers={"Content-Type": "video/mp4"})
        body = {"items": [item(video.json()["id"])]}
        async with _others(target, client, body) as calm:
            await asyncio.sleep(3 * scale)
        fds = psutil.Process(target.pid).num_fds()
        for attack in attacks:
            attacker = Attacker(target, scale)
            begun = time.monotonic()
            async with _others(target, client, body) as seen:
                await attack(attacker)
            for answer in attacker.answers:
                target.look_at(0, answer.decode("latin-1"))
            rows.append({
                "attack": attack.__name__, "seconds": round(time.monotonic() - begun, 1), **seen.summary(calm),
                "server_errors": sum(answer.count(b"HTTP/1.1 5") for answer in attacker.answers),
                "fds_before": fds, "fds_after": await _settled(target, fds), **target.cost(),
            })  # fmt: skip
    return rows


@dataclass
class Seen:
    """Requests of somebody else."""

    ms: list[float] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    def summary(self, calm: Seen) -> dict[str, Any]:
        return {
            "others": len(self.ms), "others_failed": len(self.failed), "why": sorted(set(self.failed)),
            "p50_ms": _at(self.ms, 0.5), "p99_ms": _at(self.ms, 0.99),
            "calm_p50_ms": _at(calm.ms, 0.5), "calm_p99_ms": _at(calm.ms, 0.99),
        }  # fmt: skip


def _at(values: list[float], share: float) -> float:
    return round(sorted(values)[int(share * (len(values) - 1))], 1) if values else 0.0


@asynccontextmanager
async def _others(target: Target, client: httpx2.AsyncClient, body: dict[str, Any]) -> AsyncIterator[Seen]:
    """Scores a known video again and again, on connections of its own and on new ones, until it is left."""
    seen, is_over = Seen(), asyncio.Event()

    async def ask(on: httpx2.AsyncClient) -> None:
        begun = time.perf_counter()
        try:
            response = await on.post("/v1/score", json=body)
            if response.status_code != 200:
                seen.failed.append(f"{response.status_code} {response.json()['code']}")
        except httpx2.TransportError as error:
            seen.failed.append(type(error).__name__)
        seen.ms.append(1000 * (time.perf_counter() - begun))

    async def keep_asking() -> None:
        while not is_over.is_set():
            await ask(client)
            async with target.callers(1) as newcomer:
                await ask(newcomer)
            await asyncio.sleep(_EVERY_S)

    asking = asyncio.create_task(keep_asking())
    try:
        yield seen
    finally:
        is_over.set()
        await asking


async def _settled(target: Target, before: int) -> int:
    """Descriptors that the server has once it has noticed that nobody is there any more."""
    server, until = psutil.Process(target.pid), time.monotonic() + 20
    while (now := server.num_fds()) > before + 2 and time.monotonic() < until:
        await asyncio.sleep(0.2)
    return now
