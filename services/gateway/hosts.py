"""Which hosts the service answers for: a page whose name is made to point here (DNS rebinding) gets nothing."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable

from starlette.types import ASGIApp, Receive, Scope, Send

from services.gateway.problem_kinds import HOST_NOT_ALLOWED
from services.gateway.problems import Problem

_LOCAL = ("localhost", "127.0.0.1", "::1")
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(:[0-9]{1,5})?", re.ASCII)


class Hosts:
    """Refuses requests for other hosts, those without a Host and those with several."""

    def __init__(self, app: ASGIApp, *, listening: str, allowed: Iterable[str]) -> None:
        self._app = app
        self._allowed = {_plain(name) for name in (*_LOCAL, listening, *allowed)} - {"0.0.0.0", "::"}
        # a header that was good once is good again: no parsing then
        self._known: set[bytes] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not self._is_allowed([v for name, v in scope["headers"] if name == b"host"]):
            raise Problem(HOST_NOT_ALLOWED)
        await self._app(scope, receive, send)

    def _is_allowed(self, hosts: list[bytes]) -> bool:
        if len(hosts) != 1:
            return False
        if hosts[0] in self._known:
            return True
        match = _HOST.fullmatch(hosts[0].decode("latin-1"))
        if match is None or _plain(match[1]) not in self._allowed:
            return False
        if len(self._known) < 64:
            self._known.add(hosts[0])
        return True


def _plain(name: str) -> str:
    """One spelling per host: lower case, no brackets, addresses in their canonical form."""
    bare = name.lower().removeprefix("[").removesuffix("]").removesuffix(".")
    try:
        return str(ipaddress.ip_address(bare))
    except ValueError:
        return bare
