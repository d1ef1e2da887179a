"""API keys on every route but liveness."""

from __future__ import annotations

import base64
import binascii
import hashlib
import time
from collections.abc import Mapping

from starlette.types import ASGIApp, Receive, Scope, Send

from cluster.errors import StoreUnavailableError
from cluster.store.keys import ApiKey, parse
from cluster.store.store import Store
from services.gateway.problem_kinds import STORE_UNAVAILABLE, UNAUTHENTICATED
from services.gateway.problems import Problem

OPEN = "/livez"
REMEMBERED_S = 2.0
_MOST_REMEMBERED = 4096
_STORE_RETRY_S = 1.0


class Authenticator:
    """Keys by their tokens. A key that was good stays good for two seconds: so long a revocation may take to show."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: dict[bytes, tuple[float, ApiKey]] = {}

    async def key(self, token: str) -> ApiKey | None:
        """The key that a token belongs to. Raises StoreUnavailableError."""
        if parse(token) is None:
            return None
        digest, now = hashlib.sha256(token.encode()).digest(), time.monotonic()
        known = self._known.get(digest)
        if known is not None and known[0] > now:
            return known[1]
        key = await self._store.keys.authenticate(token)
        if key is None:
            self._known.pop(digest, None)
        else:
            if len(self._known) >= _MOST_REMEMBERED:
                self._known.clear()
            self._known[digest] = (now + REMEMBERED_S, key)
        return key


class Auth:
    """Lets nobody in without a key. Pages for people also take it as the password of HTTP Basic."""

    def __init__(self, app: ASGIApp, *, store: Store, pages: tuple[str, ...]) -> None:
        self._app, self._pages = app, pages
        self._authenticator = Authenticator(store)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not _is_open(scope):
            scope["state"]["key"] = await self._key(scope)
        await self._app(scope, receive, send)

    async def _key(self, scope: Scope) -> ApiKey:
        is_page = scope["method"] in ("GET", "HEAD") and scope["path"].startswith(self._pages)
        token = _token([value for name, value in scope["headers"] if name == b"authorization"], basic=is_page)
        try:
            key = await self._authenticator.key(token) if token is not None else None
        except StoreUnavailableError as error:
            raise Problem(STORE_UNAVAILABLE, retry_after_s=_STORE_RETRY_S) from error
        if key is None:
            raise Problem(UNAUTHENTICATED, headers=_BASIC if is_page else _BEARER)
        return key


_BEARER: Mapping[str, str] = {"WWW-Authenticate": "Bearer"}
_BASIC: Mapping[str, str] = {"WWW-Authenticate": 'Basic realm="onlinevpo, with the API key as password"'}


def _is_open(scope: Scope) -> bool:
    """By the bytes of the path, so that no other spelling of an address is taken for this one."""
    return bool(scope["path"] == OPEN and scope.get("raw_path", OPEN.encode()) == OPEN.encode())


def _token(headers: list[bytes], *, basic: bool) -> str | None:
    if len(headers) != 1:
        return None
    scheme, _, value = headers[0].decode("latin-1").partition(" ")
    if scheme.lower() == "bearer":
        return value.strip()
    if basic and scheme.lower() == "basic":
        try:
            return base64.b64decode(value, validate=True).decode("ascii").partition(":")[2]
        except (binascii.Error, ValueError):
            return None
    return None
