"""The outermost layer: request ids, security headers, metrics, the access log, and an answer whatever happens."""

from __future__ import annotations

import json
import logging
import re
import secrets
import sys
import time
from typing import Any

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.gateway.body import has_large_body
from services.gateway.metrics import Metrics
from services.gateway.problem_kinds import INTERNAL
from services.gateway.problems import Problem

_log = logging.getLogger(__name__)
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,128}")

_GONE = 499
CSP = b"default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
_HEADERS = (
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=()"),
)


class Observe:
    """Wraps everything else."""

    def __init__(self, app: ASGIApp, *, metrics: Metrics, access_log: bool) -> None:
        self._app, self._metrics, self._access_log = app, metrics, access_log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send) if scope["type"] == "lifespan" else await _refuse(send)
        begun, status = time.perf_counter(), 0
        request_id = _request_id(scope)
        # a state of its own: the server's is shared by all requests
        scope["state"] = {**scope.get("state", {}), "request_id": request_id}

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = _with_ours(message.get("headers", ()), request_id)
            await send(message)

        try:
            await self._app(scope, receive, sending)
        except ClientDisconnect:
            status = status or _GONE  # nobody is there to be answered
        except Exception as error:
            if not isinstance(error, Problem):
                _log.exception("request %s failed", request_id)
            if status:
                raise  # the answer has begun: the connection is cut, which says that it is not whole
            problem = error if isinstance(error, Problem) else Problem(INTERNAL)
            if has_large_body(scope):
                problem.headers.setdefault("Connection", "close")  # nobody has read it
            await problem.response(request_id)(scope, receive, sending)
        finally:
            self._record(scope, request_id, status, time.perf_counter() - begun)

    def _record(self, scope: Scope, request_id: str, status: int, seconds: float) -> None:
        route = scope.get("route")
        path = getattr(route, "path", None) or "unmatched"
        self._metrics.request(path, scope["method"], status, seconds)
        if self._access_log:
            key = scope["state"].get("key")
            line = {
                "time": round(time.time(), 3), "request_id": request_id, "method": scope["method"], "route": path,
                "status": status, "ms": round(1000 * seconds, 2), "key": key.id if key else None,
            }  # fmt: skip
            print(json.dumps(line), file=sys.stderr)  # the caller's address and path are not in it, so nothing to forge


async def _refuse(send: Send) -> None:
    """There are no websockets here."""
    await send({"type": "websocket.close", "code": 1000})


def _request_id(scope: Scope) -> str:
    """The caller's own, where it has a harmless form."""
    for name, value in scope["headers"]:
        if name == b"x-request-id" and _REQUEST_ID.fullmatch(value):
            return str(value, "ascii")
    return secrets.token_hex(16)


def _with_ours(headers: Any, request_id: str) -> list[tuple[bytes, bytes]]:
    """What the answer says itself stays."""
    named = {name for name, _ in headers}
    own = [*headers, *(header for header in _HEADERS if header[0] not in named)]
    if b"content-security-policy" not in named:
        own.append((b"content-security-policy", CSP))
    own.append((b"x-request-id", request_id.encode()))
    return own
