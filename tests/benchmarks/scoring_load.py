"""Load on an HTTP server: raw HTTP/1.1 over kept connections, light enough to leave the server its cores.

A closed loop measures what a server can do: each client sends when it has its answer. An open loop measures what its
callers see: requests are due at fixed times, and latency counts from when a request was due, so a server that stalls
cannot hide it by keeping the clients from asking.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import cycle
from typing import Any, cast

LIMIT_S = 60.0
END_OF_HEAD = b"\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Request:
    """What goes over the wire, and what must be in a good answer's body."""

    wire: bytes
    expected: bytes

    def fault(self, status: int, body: bytes) -> str | None:
        """What is wrong with an answer, in a word or two; None: nothing is."""
        if status != 200:
            return f"status {status}"
        return None if self.expected in body else "wrong answer"


@dataclass(slots=True)
class Load:
    """What became of the requests."""

    seconds: float = 0.0
    latencies_s: list[float] = field(default_factory=list)
    failures: Counter[str] = field(default_factory=Counter)

    @property
    def per_s(self) -> float:
        """Good answers per second."""
        return len(self.latencies_s) / self.seconds

    def quantile_s(self, share: float) -> float:
        ordered = sorted(self.latencies_s)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("nan")

    def summary(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return {
            "requests": len(self.latencies_s) + self.failures.total(),
            "failed": self.failures.total(),
            "failures": dict(self.failures),
            "per_s": round(self.per_s, 1),
            "p50_ms": round(1000 * self.quantile_s(0.5), 3),
            "p99_ms": round(1000 * self.quantile_s(0.99), 3),
            "max_ms": round(1000 * self.quantile_s(1.0), 3),
        }


class Connection(asyncio.Protocol):
    """One request at a time."""

    def __init__(self) -> None:
        self._received = bytearray()
        self._needs = 0  # bytes of head and body, once the head is there
        self._waiter: asyncio.Future[tuple[int, bytes]] | None = None
        self._transport: asyncio.Transport | None = None
        self.is_open = False

    @classmethod
    async def to(cls, host: str, port: int) -> Connection:
        _, connection = await asyncio.get_running_loop().create_connection(cls, host, port)
        return connection

    def ask(self, request: bytes) -> asyncio.Future[tuple[int, bytes]]:
        """Status and body of the answer. The future raises ConnectionError when the server hangs up."""
        self._waiter = asyncio.get_running_loop().create_future()
        if self._transport is None or not self.is_open:
            self._waiter.set_exception(ConnectionResetError("the connection is closed"))
        else:
            self._transport.write(request)
        return self._waiter

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport, self.is_open = cast(asyncio.Transport, transport), True

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_open = False
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(ConnectionResetError("the server hung up"))

    def data_received(self, data: bytes) -> None:
        self._received += data
        if not self._needs:
            end = self._received.find(END_OF_HEAD)
            if end < 0:
                return
            self._needs = end + len(END_OF_HEAD) + _length(bytes(self._received[:end]).lower())
        if len(self._received) >= self._needs and self._waiter is not None and not self._waiter.done():
            body_from = self._received.find(END_OF_HEAD) + len(END_OF_HEAD)
            answer = int(self._received[9:12]), bytes(self._received[body_from : self._needs])
            del self._received[: self._needs]
            self._needs = 0
            self._waiter.set_result(answer)


def _length(head: bytes) -> int:
    _, name, rest = head.partition(b"\r\ncontent-length:")
    if not name:
        raise ValueError("an answer without Content-Length; this client reads no other")
    return int(rest.partition(b"\r\n")[0])


def post(path: str, body: bytes, *, host: str, headers: Mapping[str, str]) -> bytes:
    """A request as it goes over the wire."""
    lines = [f"POST {path} HTTP/1.1", f"Host: {host}", "Content-Type: application/json", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + END_OF_HEAD + body


async def closed_loop(address: tuple[str, int], requests: Sequence[Request], *, clients: int, seconds: float) -> Load:
    """Clients that each ask again as soon as they are answered."""
    load, begun = Load(), time.perf_counter()
    end = begun + seconds

    async def client(mine: Iterator[Request]) -> None:
        connection = await Connection.to(*address)
        while (asked := time.perf_counter()) < end:
            if not connection.is_open:
                connection = await Connection.to(*address)
            await _ask(connection, next(mine), asked, load)
        connection.close()

    await asyncio.gather(*(client(cycle(requests[n::clients] or requests[:1])) for n in range(clients)))
    load.seconds = time.perf_counter() - begun
    return load


async def open_loop(
    address: tuple[str, int],
    requests: Sequence[Request],
    *,
    per_s: float,
    count: int,
    events: Mapping[int, Callable[[], Coroutine[Any, Any, None]]] | None = None,
) -> Load:
    """Requests at fixed times, over as many connections as it takes.

    Args:
        events: things to do beside, by the number of the request before which they happen.
    """
    load, idle = Load(), list[Connection]()
    begun = time.perf_counter() + 0.05
    tasks: list[asyncio.Task[None]] = []

    async def send(request: Request, due: float) -> None:
        connection = None
        while idle and (connection is None or not connection.is_open):
            connection = idle.pop()
        try:
            if connection is None or not connection.is_open:
                connection = await Connection.to(*address)
        except OSError:
            load.failures["cannot connect"] += 1
            return
        await _ask(connection, request, due, load)
        if connection.is_open:
            idle.append(connection)

    for number, request in zip(range(count), cycle(requests), strict=False):
        due = begun + number / per_s
        if (wait := due - time.perf_counter()) > 0:
            await asyncio.sleep(wait)
        if events and number in events:
            tasks.append(asyncio.create_task(events[number]()))
        tasks.append(asyncio.create_task(send(request, due)))
    await asyncio.gather(*tasks)
    load.seconds = time.perf_counter() - begun
    for connection in idle:
        connection.close()
    return load


async def _ask(connection: Connection, request: Request, since: float, load: Load) -> None:
    try:
        status, body = await _in_time(connection.ask(request.wire))
    except (OSError, TimeoutError) as error:
        connection.close()
        load.failures["no answer in time" if isinstance(error, TimeoutError) else "connection lost"] += 1
        return
    wrong = request.fault(status, body)
    if wrong is None:
        load.latencies_s.append(time.perf_counter() - since)
    else:
        load.failures[wrong] += 1


async def _in_time(answer: asyncio.Future[tuple[int, bytes]]) -> tuple[int, bytes]:
    """Not asyncio.timeout, whose three objects per request would be felt."""

    def late() -> None:
        if not answer.done():
            answer.set_exception(TimeoutError())

    timer = asyncio.get_running_loop().call_later(LIMIT_S, late)
    try:
        return await answer
    finally:
        timer.cancel()
