"""Answers that are written in one piece.

uvicorn looks at each header of each answer with two regular expressions and writes head and body one by one. Yet most
headers are always the same, and most answers are there as a whole when they begin.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.types import Message, Send
from uvicorn.protocols.http.httptools_impl import HEADER_RE, HEADER_VALUE_RE, STATUS_LINE

if TYPE_CHECKING:
    from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

Header = tuple[bytes, bytes]

_MOST_REMEMBERED = 256
_FREQUENT = frozenset(
    (
        b"cache-control", b"content-security-policy", b"content-type", b"cross-origin-opener-policy",
        b"cross-origin-resource-policy", b"permissions-policy", b"referrer-policy", b"x-content-type-options",
        b"x-frame-options",
    )
)  # fmt: skip
_UVICORNS_BUSINESS = frozenset((b"connection", b"transfer-encoding"))
_lines: dict[Header, bytes] = {}


def whole_answers(cycle: RequestResponseCycle) -> Send:
    """What the application sends with instead of `cycle.send`, which still gets whatever is out of the ordinary."""
    plain = cycle.send
    held: Message | None = None
    length: int | None = None

    async def send(message: Message) -> None:
        nonlocal held, length
        if message["type"] == "http.response.start" and (length := _length(message)) is not None:
            held = message
            return
        head, held = held, None
        if head is not None and not _written(cycle, head, message, length):
            await plain(head)  # type: ignore[arg-type]
        if head is None or not cycle.response_complete:
            await plain(message)  # type: ignore[arg-type]

    return send


def _written(cycle: RequestResponseCycle, head: Message, message: Message, length: int | None) -> bool:
    """Whether the answer was written, which only one that is ordinary is."""
    body = message.get("body", b"")
    is_ordinary = (
        message["type"] == "http.response.body"
        and not message.get("more_body", False)
        and cycle.keep_alive
        and not (cycle.response_started or cycle.disconnected or cycle.flow.write_paused or cycle.access_log)
        and cycle.scope["method"] != "HEAD"
        and head["status"] not in (204, 304)
        and length == len(body)
    )
    headers: list[Header] = [*cycle.default_headers, *head["headers"]]
    if not is_ordinary or any(name in _UVICORNS_BUSINESS for name, _ in headers):
        return False
    lines = [_lines.get(header) or _line(header) for header in headers]
    cycle.response_started, cycle.waiting_for_100_continue = True, False
    cycle.transport.write(b"".join((STATUS_LINE[head["status"]], *lines, b"\r\n", body)))
    cycle.response_complete = True
    cycle.message_event.set()
    cycle.on_response()
    return True


def _length(head: Message) -> int | None:
    """What an answer says that its body's length is; what does not say it may come bit by bit."""
    found = [value for name, value in head.get("headers", ()) if name == b"content-length"]
    return int(found[0]) if len(found) == 1 and found[0].isdigit() else None


def _line(header: Header) -> bytes:
    name, value = header
    if HEADER_RE.search(name) or HEADER_VALUE_RE.search(value):
        raise RuntimeError("a header of the answer has characters that would end it")
    line = b"%b: %b\r\n" % (name.lower(), value)
    if name in _FREQUENT and len(_lines) < _MOST_REMEMBERED:
        _lines[header] = line
    return line
