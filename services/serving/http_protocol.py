"""HTTP/1.1 as uvicorn speaks it, with bounds on what a request may send before anyone has looked at it."""

from __future__ import annotations

import asyncio
import json
import secrets
from asyncio.events import TimerHandle
from typing import cast

from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from services.serving.lingering import LingeringTransport
from services.serving.whole_answers import whole_answers

HEADER_BYTES = 32 * 1024
HEADERS_S = 15.0
"""Until a request's headers are there; also until the body of one that has been answered is."""
WRITE_S = 60.0
"""Until a client has read some of what waits for it."""
MOST_AHEAD = 64
"""Requests of one connection that may wait for an answer."""
_AROUND_A_HEADER = 4  # colon, space, line end
_SECURITY_HEADERS = (
    b"content-type: application/problem+json\r\nx-content-type-options: nosniff\r\ncache-control: no-store\r\n"
    b"content-security-policy: default-src 'none'; frame-ancestors 'none'\r\nconnection: close\r\n"
)


class BoundedProtocol(HttpToolsProtocol):
    """Closes connections whose requests are too long or too slow before their bodies, or whose answers are not read."""

    _raw_bytes = 0  # since the last request was whole, as long as its headers are not
    _header_bytes = 0  # as they were read
    _is_in_body = False
    _headers_timer: TimerHandle | None = None
    _write_timer: TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._lingering = LingeringTransport(transport, lambda: self._is_in_body or self._raw_bytes > 0)
        super().connection_made(cast(asyncio.Transport, self._lingering))
        self._await_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        self.resume_writing()
        self._lingering.lost()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._lingering.is_closing():
            return
        if not self._is_in_body:
            self._await_headers()
            self._raw_bytes += len(data)
        super().data_received(data)
        if not self._is_in_body and self._raw_bytes > HEADER_BYTES and not self.transport.is_closing():
            self.send_400_response("")

    def pause_writing(self) -> None:
        if self._write_timer is None:
            self._write_timer = self.loop.call_later(WRITE_S, self._lingering.abort)
        super().pause_writing()

    def resume_writing(self) -> None:
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None
        super().resume_writing()

    def on_message_begin(self) -> None:
        self._header_bytes = 0
        if len(self.pipeline) >= MOST_AHEAD:
            raise ValueError("too many requests at once")  # as below
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count(len(name) + len(value) + _AROUND_A_HEADER)
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        super().on_headers_complete()  # which refuses addresses that are none
        self._is_in_body = True
        self._stop_waiting()

    def on_message_complete(self) -> None:
        self._is_in_body, self._raw_bytes = False, 0
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._is_in_body:
            self._await_headers()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        cycle.send = whole_answers(cycle)  # type: ignore[method-assign,assignment]
        super()._start_asgi_task(cycle, app)

    def send_400_response(self, msg: str) -> None:
        """A problem like all others; nothing of the request is in it."""
        if self._is_answering_another():
            self._lingering.abort()
            return
        if self._is_in_body:
            self.cycle.disconnected = True  # this is its answer
            self.cycle.message_event.set()
        problem = {
            "type": "/problems/bad_request",
            "title": "Bad request",
            "status": 400,
            "detail": f"This is no HTTP/1.1 request, or its headers are longer than {HEADER_BYTES} bytes.",
            "code": "bad_request",
            "request_id": secrets.token_hex(16),
            "retryable": False,
        }
        body = json.dumps(problem).encode()
        length = b"content-length: %d\r\n\r\n" % len(body)
        self.transport.write(b"".join((STATUS_LINE[400], _SECURITY_HEADERS, length, body)))
        self.transport.close()

    def _is_answering_another(self) -> bool:
        """Whether an answer now would be taken for that of an earlier request, or be put into one."""
        if self.cycle is None or self.cycle.response_complete:
            return False
        return bool(self.pipeline) or not self._is_in_body or self.cycle.response_started

    def _count(self, size: int) -> None:
        self._header_bytes += size
        if self._header_bytes > HEADER_BYTES:
            raise ValueError("headers too long")  # the parser turns it into its own error, and that into a 400

    def _await_headers(self) -> None:
        if self._headers_timer is None:
            self._headers_timer = self.loop.call_later(HEADERS_S, self._close)

    def _stop_waiting(self) -> None:
        if self._headers_timer is not None:
            self._headers_timer.cancel()
            self._headers_timer = None

    def _close(self) -> None:
        self._headers_timer = None
        if not self.transport.is_closing():
            self.transport.close()
