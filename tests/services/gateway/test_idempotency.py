"""The layer over a small application, and over stores of both kinds."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest
from starlette.types import Receive, Scope, Send

from cluster.errors import StoreUnavailableError
from cluster.store.keys import ApiKey
from cluster.store.open import open_store
from cluster.store.store import Store
from services.gateway import idempotency
from services.gateway.idempotency import LARGEST_ANSWER, Idempotent
from services.gateway.problems import Problem
from tests.cluster.store.conftest import ManualClock

KEY = {"Idempotency-Key": "5f1c"}


@pytest.fixture(params=["sqlite", "redis"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return request.getfixturevalue("server").url if request.param == "redis" else str(tmp_path / "store")


@pytest.fixture
def prefix() -> str:
    return uuid.uuid4().hex


@pytest.fixture
async def store(address: str, prefix: str, clock: ManualClock) -> AsyncIterator[Store]:
    opened = await open_store(address, prefix=prefix, clock=clock)
    yield opened
    await opened.close()


class App:
    """Counts its calls, and answers with what it was sent. `status` and `hold` change how."""

    def __init__(self, store: Store, owner: str = "ada") -> None:
        self.calls: list[tuple[bytes, str | None]] = []
        self.status, self.size, self.error = 200, 0, None
        self.hold: asyncio.Event | None = None
        self.begun = asyncio.Event()
        self.owner: str | None = owner
        self.layer = Idempotent(self.work, store=store.idempotency, largest_body=1000, uploads="/v1/files")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """What stands around the layer: who asks, and problems as answers."""
        key = None if self.owner is None else ApiKey(id=self.owner, name="", scopes=frozenset(), created_at=0.0)
        scope["state"] = {"key": key}
        try:
            await self.layer(scope, receive, send)
        except Problem as problem:
            await problem.response("r1")(scope, receive, send)

    async def work(self, scope: Scope, receive: Receive, send: Send) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        self.calls.append((body, scope["state"].get("operation_id")))
        self.begun.set()
        if self.hold is not None:
            await self.hold.wait()
        if self.error is not None:
            raise self.error
        headers = [(b"content-type", b"text/plain"), (b"location", b"/there")]
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": b"%d " % len(self.calls), "more_body": True})
        await send({"type": "http.response.body", "body": body + b"." * self.size})

    async def post(self, body: bytes = b"one", path: str = "/v1/score", **headers: str) -> httpx2.Response:
        async with httpx2.AsyncClient(transport=httpx2.ASGITransport(self), base_url="http://localhost") as client:
            return await client.post(path, content=body, headers=KEY | headers)


@pytest.fixture
def app(store: Store) -> App:
    return App(store)


async def test_a_repetition_gets_the_first_answer_byte_for_byte(app: App) -> None:
    first, second = await app.post(), await app.post()
    assert (first.status_code, first.content) == (second.status_code, second.content) == (200, b"1 one")
    assert len(app.calls) == 1
    assert "Idempotent-Replayed" not in first.headers and second.headers["Idempotent-Replayed"] == "true"
    assert second.headers["Location"] == "/there" and second.headers["Content-Type"] == "text/plain"


async def test_it_does_so_after_a_restart(app: App, address: str, prefix: str, clock: ManualClock) -> None:
    first = await app.post()
    again = await open_store(address, prefix=prefix, clock=clock)
    restarted = App(again)
    assert (await restarted.post()).content == first.content and not restarted.calls
    await again.close()


async def test_the_answer_is_forgotten_after_a_day(app: App, clock: ManualClock) -> None:
    await app.post()
    clock.advance(24 * 3600 + 1)
    assert (await app.post()).content == b"2 one"


@pytest.mark.parametrize(
    "other",
    [
        lambda app: app.post(**{"Idempotency-Key": "other"}),
        lambda app: app.post(path="/v1/compare"),
        lambda app: setattr(app, "owner", "bob") or app.post(),
    ],
    ids=["another key", "another address", "another API key"],
)
async def test_a_key_belongs_to_its_address_and_its_owner(app: App, other: Callable[[App], Any]) -> None:
    await app.post()
    assert (await other(app)).content == b"2 one"


async def test_a_key_with_another_body_is_refused(app: App) -> None:
    await app.post()
    for answer in (await app.post(b"two"), await app.post(path="/v1/score?x=1")):
        assert answer.status_code == 422 and answer.json()["code"] == "idempotency_key_reused"
    assert len(app.calls) == 1


async def test_a_key_that_is_being_worked_on_says_when_to_come_back(app: App) -> None:
    app.hold = asyncio.Event()
    first = asyncio.create_task(app.post())
    await app.begun.wait()
    meanwhile = await app.post()
    assert meanwhile.status_code == 409 and meanwhile.json()["code"] == "idempotency_key_in_use"
    assert 1 <= int(meanwhile.headers["Retry-After"]) <= 15
    app.hold.set()
    assert (await first).content == b"1 one"
    assert (await app.post()).content == b"1 one"


async def test_long_work_keeps_its_key(app: App, clock: ManualClock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idempotency, "RENEW_S", 0.01)
    app.hold = asyncio.Event()
    first = asyncio.create_task(app.post())
    await app.begun.wait()
    for _ in range(4):
        clock.advance(10)
        await asyncio.sleep(0.1)
    assert (await app.post()).status_code == 409
    app.hold.set()
    await first


async def test_after_the_death_of_a_server_the_next_one_continues_the_same_operation(
    app: App, store: Store, clock: ManualClock
) -> None:
    app.hold = asyncio.Event()
    dead = asyncio.create_task(app.post())
    await app.begun.wait()
    clock.advance(16)
    survivor = App(store)
    assert (await survivor.post()).content == b"1 one"
    assert survivor.calls[0][1] == app.calls[0][1] is not None
    app.hold.set()
    await dead
    assert (await survivor.post()).content == b"1 one"


@pytest.mark.parametrize("status", [408, 409, 429, 500, 503])
async def test_a_failure_that_may_pass_is_not_kept_but_its_operation_is(app: App, status: int) -> None:
    app.status = status
    await app.post()
    app.status = 200
    assert (await app.post()).content == b"2 one"
    assert app.calls[0][1] == app.calls[1][1]


async def test_a_failure_for_good_is_kept(app: App) -> None:
    app.status = 404
    await app.post()
    assert (await app.post()).status_code == 404 and len(app.calls) == 1


async def test_a_request_that_raised_can_be_sent_again(app: App) -> None:
    app.error = RuntimeError("boom")
    with pytest.raises(RuntimeError):
        await app.post()
    app.error = None
    assert (await app.post()).content == b"2 one"


async def test_a_canceled_request_can_be_sent_again(app: App) -> None:
    app.hold = asyncio.Event()
    first = asyncio.create_task(app.post())
    await app.begun.wait()
    first.cancel()
    await asyncio.wait([first])
    app.hold = None
    assert (await app.post()).content == b"2 one"


async def test_an_answer_that_is_too_large_is_given_and_not_kept(app: App) -> None:
    app.size = LARGEST_ANSWER
    first, second = await app.post(), await app.post()
    assert first.content == b"1 one" + b"." * app.size and second.content == b"2 one" + b"." * app.size


async def test_a_body_that_is_too_large_is_the_routes_to_refuse(app: App) -> None:
    body = b"x" * 70_000
    assert (await app.post(body)).content == b"1 " + body
    assert (await app.post(body)).content == b"2 " + body
    assert app.calls[0][1] is None


@pytest.mark.parametrize("key", ["", "a b", "x" * 256, "tab\t", "\x7f"])
async def test_a_key_that_is_none_is_refused(app: App, key: str) -> None:
    answer = await app.post(**{"Idempotency-Key": key})
    assert answer.status_code == 400 and answer.json()["code"] == "invalid_idempotency_key"
    assert not app.calls


async def test_two_keys_are_none(app: App) -> None:
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://localhost") as client:
        answer = await client.post("/v1/score", headers=[("Idempotency-Key", "a"), ("Idempotency-Key", "a")])
    assert answer.status_code == 400


async def test_without_the_header_nothing_is_remembered(store: Store, app: App) -> None:
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://localhost") as client:
        assert [(await client.post("/v1/score", content=b"x")).content for _ in range(2)] == [b"1 x", b"2 x"]
        assert (await client.get("/v1/score", headers=KEY)).content == b"3 "
    assert await store.idempotency.purge() == 0


async def test_a_store_that_is_away_is_said_to_be(app: App, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    async def away(*_: Any, **__: Any) -> Any:
        raise StoreUnavailableError("away")

    monkeypatch.setattr(store.idempotency, "begin", away)
    answer = await app.post()
    assert answer.status_code == 503 and answer.headers["Retry-After"] and not app.calls


async def test_work_that_was_done_is_answered_even_if_it_cannot_be_kept(
    app: App, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: Any, **__: Any) -> Any:
        raise StoreUnavailableError("away")

    monkeypatch.setattr(store.idempotency, "finish", away)
    assert (await app.post()).content == b"1 one"


async def test_the_same_request_sent_many_times_at_once_is_done_once(app: App) -> None:
    answers = await asyncio.gather(*(app.post() for _ in range(20)))
    assert {answer.status_code for answer in answers} <= {200, 409} and len(app.calls) == 1
    assert (await app.post()).content == b"1 one"
