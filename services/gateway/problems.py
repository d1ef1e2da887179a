"""Failures as RFC 9457 problem details. Nothing that a caller sent is in them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import orjson
from starlette.responses import Response

from services.gateway.problem_kinds import Kind

MEDIA_TYPE = "application/problem+json"
PAGES = "/problems/"

JsonObject: TypeAlias = dict[str, Any]
"""As orjson writes it."""


class Problem(Exception):
    """Raised anywhere below a route, it becomes the answer.

    Args:
        detail: one sentence, without anything of the request; by default the kind's.
        errors: where it is wrong: {"pointer": JSON pointer into the body, "detail": ...}, or {"parameter": ...}.
        retry_after_s: when trying again makes sense.
        headers: of the answer.
        more: further members of the problem object.
    """

    def __init__(
        self,
        kind: Kind,
        detail: str | None = None,
        *,
        errors: Sequence[Mapping[str, str]] = (),
        retry_after_s: float | None = None,
        headers: Mapping[str, str] | None = None,
        more: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(kind.code)
        self.kind, self.detail, self.errors = kind, detail or kind.detail, errors
        self.retry_after_s, self.headers, self.more = retry_after_s, dict(headers or {}), dict(more or {})

    def body(self, request_id: str) -> JsonObject:
        """The problem object."""
        value: JsonObject = {
            "type": PAGES + self.kind.code,
            "title": self.kind.title,
            "status": self.kind.status,
            "detail": self.detail,
            "code": self.kind.code,
            "request_id": request_id,
            "retryable": self.kind.retryable,
        }
        if self.errors:
            value["errors"] = [dict(error) for error in self.errors]
        if self.retry_after_s is not None:
            value["retry_after_s"] = whole_seconds(self.retry_after_s)
        return value | self.more

    def response(self, request_id: str) -> Response:
        """The answer to a request that this ends."""
        return problem_response(self.body(request_id), self.headers)


def problem_response(body: JsonObject, headers: Mapping[str, str] | None = None) -> Response:
    """A problem object as an answer, with the status that it names."""
    more = dict(headers or {})
    if "retry_after_s" in body:
        more.setdefault("Retry-After", str(body["retry_after_s"]))
    return Response(orjson.dumps(body), status_code=body["status"], headers=more, media_type=MEDIA_TYPE)


def whole_seconds(seconds: float) -> int:
    """Retry-After knows whole seconds only; at least one, at most an hour."""
    return max(1, min(3600, math.ceil(seconds))) if math.isfinite(seconds) else 1
