"""The header Idempotency-Key: a repeated POST gets the answer of the first one, byte for byte, also after a restart.

A key belongs to an API key and an address. What is kept is the answer; one that asks for a repetition (408, 409, 429,
5xx) is not, nor one above LARGEST_ANSWER: then a repetition does the work again under the same operation id, and finds
the job that the first try may have made. Uploads pass this layer: their body is known once it is on the disk
(`files.py`).
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from types import SimpleNamespace

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cluster.errors import LeaseLostError, StoreUnavailableError
from cluster.store.idempotency import Answer, Done, Fresh, Idempotency, InProgress, Ticket
from services.gateway.problem_kinds import STORE_UNAVAILABLE, kind
from services.gateway.problems import Problem

LEASE_S = 15.0
"""After the death of a server, a repetition takes over the key so much later."""
RENEW_S = 4.0
LARGEST_ANSWER = 4 * 2**20
REPLAYED = (b"idempotent-replayed", b"true")
_REPLAY = SimpleNamespace(path="replayed")  # for metrics and the access log: no route is asked again

_KEY = re.compile(rb"[\x21-\x7e]{1,255}")
_TRY_AGAIN = frozenset({408, 409, 425, 429})
_STORE_RETRY_S = 1.0

INVALID_KEY = kind(
    "invalid_idempotency_key", 400, "Invalid Idempotency-Key",
    "The header Idempotency-Key is not one value of 1 to 255 visible ASCII characters.",
    "Use a random UUID for each operation, and the same one for its repetitions.",
)  # fmt: skip
KEY_IN_USE = kind(
    "idempotency_key_in_use", 409, "Still being worked on",
    "Another request with this Idempotency-Key is not over yet.",
    "Send the request again after the time that Retry-After says.", retryable=True,
)  # fmt: skip
KEY_REUSED = kind(
    "idempotency_key_reused", 422, "Idempotency-Key used before",
    "This Idempotency-Key was used for a request with another body.",
    "Use a new key for a new request.",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One POST that may be repeated: whose, at which address, under which key."""

    owner: str
    path: str
    key: str

    async def begin(self, store: Idempotency, body_hash: str) -> Ticket | Answer:
        """The right to do it, or the answer that it got.

        Raises:
            Problem: it is being done, or the key was another request's, or the store does not answer.
        """
        try:
            begun = await store.begin(self.owner, f"{self.path}\n{self.key}", body_hash, lease_s=LEASE_S)
        except StoreUnavailableError as error:
            raise Problem(STORE_UNAVAILABLE, retry_after_s=_STORE_RETRY_S) from error
        if isinstance(begun, Fresh):
            return begun.ticket
        if isinstance(begun, Done):
            return begun.answer
        if isinstance(begun, InProgress):
            raise Problem(KEY_IN_USE, retry_after_s=begun.retry_after_s)
        raise Problem(KEY_REUSED)


def operation_of(scope: Scope) -> Operation | None:
    """What a request's header says; None without one. Raises Problem: it is no key."""
    keys = [value for name, value in scope["headers"] if name == b"idempotency-key"]
    if not keys or scope["method"] != "POST" or (caller := scope["state"].get("key")) is None:
        return None
    if len(keys) > 1 or not _KEY.fullmatch(keys[0]):
        raise Problem(INVALID_KEY)
    return Operation(owner=caller.id, path=scope["path"], key=keys[0].decode())


@asynccontextmanager
async def held(store: Idempotency, ticket: Ticket) -> AsyncIterator[Callable[[Answer], Awaitable[None]]]:
    """Keeps a key while its request is worked on; yields what keeps the answer. Without that, it may be repeated."""
    is_kept = False

    async def keep(answer: Answer) -> None:
        nonlocal is_kept
        if answer.status in _TRY_AGAIN or answer.status >= 500 or len(answer.body) > LARGEST_ANSWER:
            return
        is_kept = True
        with suppress(LeaseLostError, StoreUnavailableError):  # the work is done: whoever asked shall know
            await store.finish(ticket, answer)

    renewing = asyncio.create_task(_renew(store, ticket))
    try:
        yield keep
    finally:
        renewing.cancel()
        if not is_kept:
            await asyncio.shield(asyncio.ensure_future(_let_go(store, ticket)))


async def _renew(store: Idempotency, ticket: Ticket) -> None:
    with suppress(LeaseLostError):
        while True:
            await asyncio.sleep(RENEW_S)
            with suppress(StoreUnavailableError):
                await store.renew(ticket, lease_s=LEASE_S)


async def _let_go(store: Idempotency, ticket: Ticket) -> None:
    """The next request may have the key at once. Not forgotten: what this one began is found by its operation id."""
    with suppress(StoreUnavailableError, LeaseLostError):
        await store.renew(ticket, lease_s=0)


def replay(answer: Answer) -> Response:
    """The answer as it was, and a header that says so."""
    headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in answer.headers]
    response = Response(answer.body, status_code=answer.status)
    response.raw_headers = [*headers, REPLAYED]
    return response


def answer_of(response: Response) -> Answer:
    """What is kept of a response."""
    headers = tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in response.raw_headers)
    return Answer(status=response.status_code, headers=headers, body=bytes(response.body))


class Idempotent:
    """A layer below authentication and the limits on bodies. Requests without the header pass untouched.

    Args:
        largest_body: a longer one is left to the routes, which refuse it.
        uploads: address whose route sees to the header itself.
    """

    def __init__(self, app: ASGIApp, *, store: Idempotency, largest_body: int, uploads: str) -> None:
        self._app, self._store, self._largest_body, self._uploads = app, store, largest_body, uploads

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST" or scope["path"] == self._uploads:
            return await self._app(scope, receive, send)
        operation = operation_of(scope)
        if operation is None:
            return await self._app(scope, receive, send)
        body = _Recorded(receive)
        if not await body.record(self._largest_body):
            return await self._app(scope, body.receive, send)
        begun = await operation.begin(self._store, body.hash(scope["query_string"]))
        if isinstance(begun, Answer):
            scope["route"] = _REPLAY
            return await replay(begun)(scope, receive, send)
        scope["state"]["operation_id"] = begun.operation_id
        async with held(self._store, begun) as keep:
            given = _Held(send)
            await self._app(scope, body.receive, given.send)
            if (answer := given.answer) is not None:
                await keep(answer)
        await given.release()


class _Recorded:
    """A body that is read before the route reads it."""

    def __init__(self, receive: Receive) -> None:
        self._receive, self._messages = receive, deque[Message]()
        self._digest = hashlib.sha256()

    async def record(self, largest: int) -> bool:
        """Reads all of it; false: it is too long, or the caller went away."""
        size = 0
        while True:
            message = await self._receive()
            self._messages.append(message)
            if message["type"] != "http.request":
                return False
            self._digest.update(message.get("body", b""))
            size += len(message.get("body", b""))
            if size > largest:
                return False
            if not message.get("more_body", False):
                return True

    def hash(self, query: bytes) -> str:
        """Of what was asked: the body and the address's query."""
        return f"{self._digest.hexdigest()}?{hashlib.sha256(query).hexdigest()}"

    async def receive(self) -> Message:
        return self._messages.popleft() if self._messages else await self._receive()


class _Held:
    """An answer that is sent once it is kept, so that nobody has one that a repetition would not get."""

    def __init__(self, send: Send) -> None:
        self._send, self._messages = send, list[Message]()
        self._size, self._is_passing = 0, False

    async def send(self, message: Message) -> None:
        self._size += len(message.get("body", b""))
        self._messages.append(message)
        if self._is_passing or self._size > LARGEST_ANSWER:
            self._is_passing = True
            await self.release()

    async def release(self) -> None:
        """Sends what is held."""
        messages, self._messages = self._messages, []
        for message in messages:
            await self._send(message)

    @property
    def answer(self) -> Answer | None:
        """The whole answer; None: it was too large and is on its way, or is not whole."""
        if self._is_passing or not self._messages or self._messages[-1].get("more_body", False):
            return None
        start, *parts = self._messages
        headers = tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in start.get("headers", ()))
        return Answer(status=start["status"], headers=headers, body=b"".join(part.get("body", b"") for part in parts))
