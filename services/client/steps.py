"""Calls as steps that somebody else takes: the same calls then work with and without asyncio.

A plan yields a `Request` and is sent the `Answer`; `Unreachable` or `TimedOut` is thrown into it where there is none.
It may yield a `Pause` or `Work` as well. What it returns is the outcome of the call.
"""

from __future__ import annotations

import json
import random
import secrets
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from services.client.errors import ScoringError, TimedOut, Unreachable, error_of_answer

T = TypeVar("T")

FIRST_PAUSE_S = 0.2
LONGEST_PAUSE_S = 5.0
_RETRIED = frozenset({408, 429, 502, 503})


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """`content` is a body, or the file that holds it; `timeout_s` what is left for it."""

    method: str
    path: str
    params: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    content: bytes | Path | None = None
    timeout_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause:
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """Something that reads a disk: with asyncio, a thread does it."""

    run: Callable[[], Any]


Step: TypeAlias = Request | Pause | Work
Plan: TypeAlias = Generator[Step, Any, T]


def work(run: Callable[[], T]) -> Plan[T]:
    """What `run` returns or raises."""
    value: T = yield Work(run=run)
    return value


def get(path: str, **params: Any) -> Request:
    """A request that reads; parameters that are None are left out."""
    return Request(method="GET", path=path, params={name: value for name, value in params.items() if value is not None})


def post(
    path: str,
    value: Any = None,
    *,
    content: bytes | Path | None = None,
    headers: Mapping[str, str] | None = None,
) -> Request:
    """A request that changes something, once however often it is sent: its key says that it is the same one."""
    body = json.dumps(value, allow_nan=False).encode() if value is not None else content
    kind = {"Content-Type": "application/json"} if value is not None else {}
    own = {"Idempotency-Key": secrets.token_hex(16)}
    return Request(method="POST", path=path, content=body, headers=own | kind | dict(headers or {}))


def answered(request: Request, *, deadline: float) -> Plan[Answer]:
    """Sends a request until there is an answer that will not change by sending it again.

    Args:
        deadline: of time.monotonic().
    Raises:
        ApiError: the answer is an error. Unreachable, TimedOut: there was none in time.
    """
    failed: ScoringError | None = None
    attempt = 0
    while (left := deadline - time.monotonic()) > 0:
        after = 0.0
        try:
            answer: Answer = yield replace(request, timeout_s=left)
        except Unreachable as error:
            failed = error
        else:
            if answer.status < 400:
                return answer
            refused = error_of_answer(answer.status, answer.headers, answer.body)
            if not (answer.status in _RETRIED or (answer.status == 409 and refused.retryable)):
                raise refused
            failed, after = refused, refused.retry_after or 0.0
        seconds = max(after, pause_s(attempt))
        if time.monotonic() + seconds >= deadline:
            break
        yield Pause(seconds=seconds)
        attempt += 1
    raise failed or TimedOut("the time of the call was over before it began")


def pause_s(attempt: int) -> float:
    """How long to wait after a failed attempt: longer each time, and not the same for all who failed together."""
    return random.uniform(0.5, 1.0) * min(FIRST_PAUSE_S * float(2**attempt), LONGEST_PAUSE_S)
