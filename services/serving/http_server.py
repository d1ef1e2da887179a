"""The HTTP server: uvicorn in this process, started and stopped by whoever owns it, on a socket bound before."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import logging
import math
import socket
from collections.abc import Iterator
from typing import Any

import uvicorn

from policies.errors import InputError
from services.serve_config import ServeConfig
from services.serving.http_protocol import BoundedProtocol

BACKLOG = 2048
KEEP_ALIVE_S = 75
_POLL_S = 0.02


def bind(config: ServeConfig) -> socket.socket:
    """Takes the address, without listening yet: whoever connects before the service is ready is refused at once.

    Raises:
        InputError: the address is taken, not this machine's, or not ours to take.
    """
    where = f"{config.host}:{config.port}"
    try:
        found = socket.getaddrinfo(config.host, config.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise InputError(
            f"host {config.host!r} cannot be resolved ({error}); give an address of this machine"
        ) from error
    family, kind, protocol, _, address = found[0]
    taken = socket.socket(family, kind, protocol)
    try:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a restart need not wait for old connections
        taken.bind(address)
        taken.set_inheritable(False)
    except OSError as error:
        taken.close()
        raise InputError(_why_not(error, where)) from error
    return taken


def _why_not(error: OSError, where: str) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"{where} is taken by another process; stop it, or choose another port with --port (0: any free one)"
    if error.errno == errno.EADDRNOTAVAIL:
        return f"{where} is no address of this machine; see `ip address`, or use 127.0.0.1"
    if error.errno == errno.EACCES:
        return f"{where} may not be taken by this user; choose a port above 1023"
    return f"{where} cannot be taken: {error.strerror}"


def url_of(config: ServeConfig, bound: socket.socket) -> str:
    """How a client on this machine reaches the service; an address that means all is told as this machine's."""
    host, port = config.host, bound.getsockname()[1]
    with contextlib.suppress(ValueError):
        address = ipaddress.ip_address(host)
        if address.is_unspecified:
            host = "127.0.0.1" if address.version == 4 else "::1"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class HttpServer(uvicorn.Server):
    """Answers on a socket until it is told to stop. Signals are its owner's business."""

    def __init__(self, app: Any, *, drain_s: float) -> None:
        logging.getLogger("uvicorn.error").setLevel(logging.ERROR)  # what callers do wrong is no news
        super().__init__(
            uvicorn.Config(
                app,
                http=BoundedProtocol,
                ws="none",
                lifespan="on",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                backlog=BACKLOG,
                timeout_keep_alive=KEEP_ALIVE_S,
                timeout_graceful_shutdown=math.ceil(drain_s),
            )
        )
        self._task: asyncio.Task[None] | None = None

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """uvicorn would take SIGINT and SIGTERM, and raise them again at the end."""
        yield

    async def start(self, bound: socket.socket) -> None:
        """Returns when connections are taken. Raises InputError."""
        task = self._task = asyncio.create_task(self.serve(sockets=[bound]), name="http")
        while not self.started and not task.done():
            await asyncio.sleep(_POLL_S)
        if task.done() and (error := task.exception()) is not None:
            raise InputError(f"the HTTP server did not start: {error}") from error

    @property
    def running(self) -> asyncio.Task[None]:
        """It ends when the server does."""
        assert self._task is not None, "the server has not been started"
        return self._task

    async def stop(self) -> None:
        """Takes no more connections, lets what runs finish within the time for draining, then cuts it off."""
        self.should_exit = True
        if self._task is not None:
            await self._task
