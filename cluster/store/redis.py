"""The store in Redis or Valkey, for servers on several machines.

Changes are WATCH, MULTI, EXEC: no script, so a user without @scripting and @dangerous will do. How durable an
acknowledged change is, is the server's setting: with `appendfsync always` nothing is lost; with `everysec` a killed
server may take two seconds with it; without an append-only file, all since the last snapshot.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Awaitable, Sequence
from typing import Any, TypeAlias, TypeVar
from urllib.parse import urlsplit

from redis.asyncio import BlockingConnectionPool
from redis.asyncio.connection import AbstractConnection, parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, ConnectionError, NoPermissionError, RedisError, ResponseError

from cluster.deadline import within
from cluster.errors import StoreUnavailableError
from cluster.store.records import Change, Clock, Decide
from cluster.store.redis_rules import check_version, is_loopback, refuse_without_password
from policies.errors import InputError, StallError

T = TypeVar("T")

Command: TypeAlias = tuple[str | bytes | int, ...]

CONNECTIONS = 32
LONGEST_PAUSE_S = 0.05  # before deciding again, when someone else wrote in between


class RedisRecords:
    """Records as strings, indexes as sorted sets, series as streams.

    All members of a sorted set have the score 0, so that their bytes decide; entry n of a series has the id n-0.
    """

    def __init__(
        self, pool: BlockingConnectionPool, *, prefix: str, where: str, deadline_s: float, clock: Clock | None
    ) -> None:
        self._pool, self._prefix, self._where = pool, prefix, where
        self._deadline_s, self._clock = deadline_s, clock

    async def change(self, keys: Sequence[str], decide: Decide[T]) -> T:
        return await self._bounded(self._change(keys, decide), "a change")

    async def read(self, keys: Sequence[str]) -> list[bytes | None]:
        values: list[bytes | None] = await self._one(("MGET", *map(self._key, keys)), "a read")
        return values

    async def scan(
        self, index: str, *, after: str = "", until: str = "", limit: int, newest_first: bool = False
    ) -> list[str]:
        beyond, before = f"({after}" if after else "", f"({until}" if until else ""
        if newest_first:
            bounds: Command = (_narrower(beyond, before) or "+", "-", "BYLEX", "REV")
        else:
            bounds = (beyond or "-", before or "+", "BYLEX")
        members = await self._one(("ZRANGE", self._index(index), *bounds, "LIMIT", 0, limit), "a scan")
        return [member.decode() for member in members]

    async def count(self, index: str) -> int:
        return int(await self._one(("ZCARD", self._index(index)), "a count"))

    async def read_series(self, series: str, *, after: int = 0, limit: int) -> list[tuple[int, bytes]]:
        command: Command = ("XRANGE", self._series(series), after + 1, "+", "COUNT", limit)
        entries = await self._one(command, "a read of a series")
        return [(int(number.partition(b"-")[0]), fields[1]) for number, fields in entries]

    async def now(self) -> float:
        return self._time(await self._one(("TIME",), "the time"))

    async def ping(self) -> None:
        await self._one(("PING",), "a ping")

    async def close(self) -> None:
        with contextlib.suppress(StoreUnavailableError):  # what matters is that nobody waits
            await self._bounded(self._pool.disconnect(), "closing")

    async def check(self, parsed: dict[str, Any]) -> None:
        """Raises InputError for a server that is too old, too open, or does not let us in."""
        host, port = str(parsed.get("host", "localhost")), int(parsed.get("port", 6379))
        is_remote = "path" not in parsed and not await asyncio.to_thread(is_loopback, host, port)
        if is_remote and not parsed.get("password"):
            raise refuse_without_password(self._where)
        async with self._connection() as connection:
            (answer,) = await _exchange(connection, [("HELLO",)])
        facts = dict(zip(answer[::2], answer[1::2], strict=True))
        check_version(facts[b"server"].decode(), facts[b"version"].decode(), self._where)
        if is_remote:
            await self.refuse_if_open()

    async def refuse_if_open(self) -> None:
        """Raises InputError when the server answers someone who gives no password."""
        stranger = self._pool.connection_class(
            **{**self._pool.connection_kwargs, "username": None, "password": None, "credential_provider": None, "db": 0}
        )
        try:
            await stranger.connect()  # type: ignore[no-untyped-call]
            await _exchange(stranger, [("PING",)])
        except RedisError as error:
            if _is_refusal(error):
                return
            raise
        finally:
            await stranger.disconnect(nowait=True)
        raise refuse_without_password(self._where)

    async def _change(self, keys: Sequence[str], decide: Decide[T]) -> T:
        named = [self._key(key) for key in keys]
        pause_s = 0.001
        while True:
            async with self._connection() as connection:
                look: list[Command] = [("UNWATCH",), ("WATCH", *named), ("TIME",), ("MGET", *named)]
                *_, time, values = await _first_exchange(connection, look)
                change = decide(values, self._time(time))
                if not change.writes:
                    return change.answer
                *_, done = await _exchange(connection, [("MULTI",), *self._commands(change), ("EXEC",)])
            if done is not None:
                _raise_first(done)
                return change.answer
            await asyncio.sleep(random.uniform(0, pause_s))
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    def _commands(self, change: Change[object]) -> list[Command]:
        return [
            *(("DEL", self._key(key)) for key in change.drop),
            *(("SET", self._key(key), value) for key, value in change.put),
            *(("SETRANGE", self._key(key), offset, data) for key, offset, data in change.splice),
            *(("ZREM", self._index(index), member) for index, member in change.leave),
            *(("ZADD", self._index(index), 0, member) for index, member in change.enter),
            *(("DEL", self._series(name)) for name in change.erase),
            *(("XADD", self._series(name), f"{number}-0", "", value) for name, number, value in change.append),
        ]

    def _time(self, answer: Sequence[bytes]) -> float:
        if self._clock is not None:
            return self._clock()
        seconds, microseconds = answer
        return int(seconds) + int(microseconds) / 1e6

    def _key(self, key: str) -> str:
        return f"{self._prefix}:record:{key}"

    def _index(self, index: str) -> str:
        return f"{self._prefix}:index:{index}"

    def _series(self, series: str) -> str:
        return f"{self._prefix}:series:{series}"

    async def _one(self, command: Command, what: str) -> Any:
        async def ask() -> Any:
            async with self._connection() as connection:
                return (await _first_exchange(connection, [command]))[0]

        return await self._bounded(ask(), what)

    async def _bounded(self, awaitable: Awaitable[T], what: str) -> T:
        task = asyncio.current_task()
        assert task is not None
        before = task.cancelling()
        try:
            name = f"the store at {self._where}: {what}"
            answer = await within(awaitable, seconds=self._deadline_s, waiting_for=name)
            if task.cancelling() > before:  # redis-py forgets a cancellation that comes just when it has sent
                raise asyncio.CancelledError
            return answer
        except StallError as error:
            raise StoreUnavailableError(str(error)) from error
        except (RedisError, OSError) as error:
            if isinstance(error, StoreUnavailableError):
                raise
            raise StoreUnavailableError(f"the store at {self._where} failed: {error}") from error

    @contextlib.asynccontextmanager
    async def _connection(self) -> AsyncIterator[AbstractConnection]:
        connection = await self._pool.get_connection()  # type: ignore[no-untyped-call]
        try:
            yield connection
        finally:
            await self._pool.release(connection)


async def open_redis(url: str, *, prefix: str, deadline_s: float, clock: Clock | None = None) -> RedisRecords:
    """Connects, and refuses a server that is too old or open to the network (InputError)."""
    where = _without_secrets(url)
    try:
        parsed: dict[str, Any] = dict(parse_url(url))
        pool = BlockingConnectionPool.from_url(
            url, max_connections=CONNECTIONS, timeout=deadline_s, socket_timeout=deadline_s,
            socket_connect_timeout=deadline_s, retry=Retry(NoBackoff(), 0), protocol=2,
        )  # fmt: skip
    except (ValueError, TypeError) as error:
        raise InputError(f"the store's address {where!r} cannot be used: {error}") from None
    records = RedisRecords(pool, prefix=prefix, where=where, deadline_s=deadline_s, clock=clock)
    try:
        await records._bounded(records.check(parsed), "opening it")
    except BaseException as error:
        await records.close()
        if _is_refusal(error):
            raise InputError(f"the store at {where} does not let us in: {error.__cause__}") from error
        raise
    return records


async def _first_exchange(connection: AbstractConnection, commands: Sequence[Command]) -> list[Any]:
    """What is asked before anything is written: once more if the connection had died while nobody used it."""
    try:
        return await _exchange(connection, commands)
    except ConnectionError:
        await connection.connect()  # type: ignore[no-untyped-call]
        return await _exchange(connection, commands)


def _is_refusal(error: BaseException) -> bool:
    """Whether the server did not let us in; redis-py wraps its saying so."""
    causes = [error]
    while (cause := causes[-1].__cause__) is not None:
        causes.append(cause)
    return any(isinstance(cause, AuthenticationError | NoPermissionError) for cause in causes)


async def _exchange(connection: AbstractConnection, commands: Sequence[Command]) -> list[Any]:
    """Sends commands at once, reads all answers. A connection that stopped half-way is not used again."""
    answers: list[Any] = []
    refusal: ResponseError | None = None
    try:
        await connection.send_packed_command(connection.pack_commands(commands))
        for _ in commands:
            try:
                answers.append(await connection.read_response())
            except ResponseError as error:
                refusal = refusal or error
    except BaseException:
        await connection.disconnect(nowait=True)
        raise
    if refusal is not None:
        raise refusal
    return answers


def _raise_first(answers: Sequence[Any]) -> None:
    """EXEC hands errors of single commands back among its answers."""
    for answer in answers:
        if isinstance(answer, ResponseError):
            raise answer


def _narrower(beyond: str, before: str) -> str:
    return min(beyond, before) if beyond and before else beyond or before


def _without_secrets(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
