"""The store's shipped configuration, on a real server."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from cluster.errors import StoreUnavailableError
from cluster.store.keys import new_key
from cluster.store.open import open_store
from policies.errors import InputError
from tests.cluster.store.server import Server
from tests.deploy.files import DEPLOY, ROOT

FOLDER = DEPLOY / "store"
PASSWORD = "a password of this test"
OF_A_MACHINE = ("port", "bind", "aclfile", "dir")  # where it listens and where its files lie


def settings() -> list[tuple[str, str]]:
    lines = (line for line in (FOLDER / "valkey.conf").read_text().splitlines() if line and not line.startswith("#"))
    return [(name, value) for name, _, value in (line.partition(" ") for line in lines)]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    users = tmp_path_factory.mktemp("store") / "users.acl"
    digest = hashlib.sha256(PASSWORD.encode()).hexdigest()
    users.write_text((FOLDER / "users.acl").read_text().replace("SHA256-OF-THE-PASSWORD", digest))
    shipped = [word for name, value in settings() if name not in OF_A_MACHINE for word in (f"--{name}", value)]
    running = Server("--aclfile", str(users), *shipped)
    yield running
    running.close()


def address(server: Server) -> str:
    return f"unix://onlinevpo:{PASSWORD.replace(' ', '%20')}@{server.socket}"


async def test_its_user_may_do_what_the_store_needs(server: Server) -> None:
    store = await open_store(address(server))
    new = new_key()
    await store.keys.add(new, name="one", scopes=("score",))
    assert [key.name for key in await store.keys.all()] == ["one"]
    await store.close()


async def test_nobody_gets_in_without_the_password(server: Server) -> None:
    with pytest.raises((InputError, StoreUnavailableError)):
        await open_store(server.url)


@pytest.mark.parametrize("command", ["EVAL 'return 1' 0", "CONFIG GET *", "FLUSHALL", "KEYS *", "GET other:key"])
def test_its_user_may_do_no_more(server: Server, command: str) -> None:
    client = redis.Redis(unix_socket_path=str(server.socket), username="onlinevpo", password=PASSWORD)
    with client, pytest.raises(redis.exceptions.NoPermissionError):
        client.execute_command(*command.replace("'return 1'", "1").split())


def test_an_acknowledged_write_is_on_the_disk_and_nothing_is_dropped() -> None:
    shipped = dict(settings())
    assert shipped["appendonly"] == "yes" and shipped["appendfsync"] == "always"
    assert shipped["maxmemory-policy"] == "noeviction" and shipped["protected-mode"] == "yes"


def test_the_user_is_the_one_that_the_page_of_the_store_recommends() -> None:
    (user,) = (line for line in (FOLDER / "users.acl").read_text().splitlines() if line.startswith("user onlinevpo "))
    rights = user.partition(" ~")[2]
    assert rights and rights in (ROOT / "docs" / "store.md").read_text()


def test_no_password_is_shipped() -> None:
    for path in Path(FOLDER).iterdir():
        assert ">" not in path.read_text() and not any(len(word) == 65 for word in path.read_text().split())
