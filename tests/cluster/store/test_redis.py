import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Iterator

import pytest

from cluster.errors import StoreUnavailableError
from cluster.store.open import open_store
from cluster.store.redis import open_redis
from cluster.store.redis_rules import check_version, is_loopback
from policies.errors import InputError
from tests.cluster.store.run_parts import Writer, curve, line, pair, swap
from tests.cluster.store.server import Server

USER = (  # as docs/store.md recommends
    "--user", "vpo", "on", ">pw", "~onlinevpo:*", "-@all", "+@read", "+@write", "+@transaction", "+@connection",
    "+time", "-@dangerous", "-@scripting", "-@admin",
)  # fmt: skip


@contextlib.contextmanager
def running(*options: str) -> Iterator[Server]:
    server = Server(*options)
    try:
        yield server
    finally:
        server.close()


@pytest.mark.parametrize(
    ("server", "version"), [("redis", "8.2.2"), ("redis", "9.0.0"), ("valkey", "8.1.4"), ("valkey", "9.0.3"),
                            ("valkey", "9.1.2"), ("valkey", "10.0.0"), ("redis", "8.10.0-rc1")],
)  # fmt: skip
def test_recent_servers_are_good(server: str, version: str) -> None:
    check_version(server, version, "here")


@pytest.mark.parametrize(
    ("server", "version"), [("redis", "8.2.1"), ("redis", "7.4.9"), ("redis", "6.2.14"), ("valkey", "8.1.3"),
                            ("valkey", "9.0.2"), ("valkey", "7.2.11"), ("redis", ""), ("dragonfly", "99.0.0")],
)  # fmt: skip
def test_servers_with_known_holes_are_refused(server: str, version: str) -> None:
    with pytest.raises(InputError, match=r"use Redis"):
        check_version(server, version, "here")


async def test_an_old_server_is_refused_when_the_store_is_opened() -> None:
    says_that_it_is = ("--extended-redis-compatibility", "yes")
    with (
        running(*says_that_it_is) as server,
        pytest.raises(InputError, match=r"is redis 7\.2\.4, which has"),
    ):
        await open_store(server.url)


def test_loopback_is_told_from_the_network() -> None:
    assert is_loopback("127.0.0.1", 1) and is_loopback("::1", 1) and is_loopback("127.8.8.8", 1)
    assert not is_loopback("0.0.0.0", 1) and not is_loopback("192.0.2.7", 1) and not is_loopback("::ffff:192.0.2.7", 1)


@pytest.mark.parametrize("address", ["192.0.2.7", "user@192.0.2.7:6380/2", "[2001:db8::1]"])
@pytest.mark.parametrize("scheme", ["redis", "rediss"])
async def test_cve_2025_49844_a_server_on_the_network_without_a_password_is_refused_unasked(
    scheme: str, address: str
) -> None:
    started = time.monotonic()
    with pytest.raises(InputError, match="on the network without a password"):
        await open_store(f"{scheme}://{address}", deadline_s=5)
    assert time.monotonic() - started < 4


async def test_a_server_that_answers_strangers_is_told_from_one_that_does_not(server: Server) -> None:
    open_one = await open_redis(server.url, prefix="x", deadline_s=5.0)
    with pytest.raises(InputError, match="without a password"):
        await open_one.refuse_if_open()
    await open_one.close()
    with running("--requirepass", "pw") as closed:
        records = await open_redis(f"{closed.url}?password=pw", prefix="x", deadline_s=5.0)
        await records.refuse_if_open()
        await records.close()


@pytest.mark.parametrize("query", ["", "?password=wrong"])
async def test_a_password_that_is_missing_or_wrong_is_the_users_to_fix_and_not_repeated(query: str) -> None:
    with running("--requirepass", "pw") as server, pytest.raises(InputError, match="does not let us in") as caught:
        await open_store(server.url + query)
    assert "wrong" not in str(caught.value)


async def test_a_user_who_may_not_run_scripts_or_dangerous_commands_will_do() -> None:
    with running("--requirepass", "other", *USER) as server:
        store = await open_store(f"{server.url}?username=vpo&password=pw")
        await store.ping()
        job = await store.jobs.create(owner="ada", request=b"{}")
        lease = await store.jobs.take(lease_s=10)
        assert lease is not None
        await store.jobs.finish(lease, "succeeded", b"{}")
        assert [each.id for each in (await store.jobs.page("ada")).items] == [job.id]
        assert await store.jobs.purge(older_than_s=0) == 1
        writer = await Writer.begin(store)
        await writer.tell(line(0, loss=1.0), swap(0), pair(0))
        assert await curve(store, "loss") == {0: 1.0} and len(await store.events.read("demo")) == 1
        await store.runs.forget("demo")
        await store.close()


@pytest.mark.slow
async def test_a_server_that_hangs_is_unavailable_within_the_deadline_and_then_well_again() -> None:
    with running() as server:
        store = await open_store(server.url, deadline_s=0.5)
        os.kill(server.process.pid, signal.SIGSTOP)
        started = time.monotonic()
        for call in (store.ping(), store.jobs.create(owner="ada", request=b"{}"), store.jobs.take(lease_s=1)):
            with pytest.raises(StoreUnavailableError, match="the store at unix://"):
                await call
        assert time.monotonic() - started < 5
        os.kill(server.process.pid, signal.SIGCONT)
        await asyncio.sleep(0.1)
        await store.ping()
        await store.close()


async def test_a_server_that_dies_is_unavailable_and_its_successor_is_found() -> None:
    with running() as server:
        store = await open_store(server.url, deadline_s=2)
        await store.jobs.create(owner="ada", request=b"{}")
        server.kill()
        with pytest.raises(StoreUnavailableError):
            await store.ping()
        with pytest.raises(StoreUnavailableError):
            await store.jobs.create(owner="ada", request=b"{}")
        server.restart()
        await store.ping()
        await store.jobs.create(owner="ada", request=b"{}")
        await store.close()


async def test_a_server_that_is_full_is_unavailable() -> None:
    with running("--maxmemory", "1mb", "--maxmemory-policy", "noeviction") as server:
        store = await open_store(server.url)
        with pytest.raises(StoreUnavailableError, match="maxmemory"):
            for _ in range(10):
                await store.jobs.create(owner="ada", request=b"x" * 500_000)
        await store.close()


async def test_an_address_that_cannot_be_used_is_refused_without_its_password() -> None:
    with pytest.raises(InputError, match="cannot be used") as caught:
        await open_store("redis://user:hunter2@127.0.0.1:6379/0?socket_timeout=x")
    assert "hunter2" not in str(caught.value)
    with pytest.raises(StoreUnavailableError) as refused:
        await open_store("redis://user:hunter2@127.0.0.1:1/0", deadline_s=2)
    assert "hunter2" not in str(refused.value)


async def test_whoever_is_canceled_while_asking_is_canceled(server: Server) -> None:
    """asyncio.wait_for, which redis-py uses, forgets a cancellation that comes just when its awaitable is done."""
    records = await open_redis(server.url, prefix="x", deadline_s=5.0)
    try:
        for ticks in range(60):
            asking = asyncio.create_task(records.read(["key"]))
            for _ in range(ticks):
                await asyncio.sleep(0)
            was_too_late = not asking.cancel()
            await asyncio.wait([asking])
            assert was_too_late or asking.cancelled(), ticks
    finally:
        await records.close()
