"""What can go wrong with a call. Each answer of the service that is an error has one class by its kind."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any


class ScoringError(Exception):
    """Root of all that this client raises on purpose."""


class Unreachable(ScoringError):
    """No answer came: the connection failed, again and again, until the call's time was over."""


class TimedOut(ScoringError):
    """The call's time was over before there was an answer."""


class ApiError(ScoringError):
    """The service answered with a problem (RFC 9457).

    Args:
        status: of HTTP; for an item of a request, that of its problem.
        code: which kind of problem; the service has a page for each at /problems/{code}.
        detail: one sentence.
        request_id: by which the service's log knows the request.
        retryable: whether the same may succeed later.
        retry_after: when, in seconds, if the service said so.
        errors: where the request is wrong: JSON pointers or names of parameters, with a detail each.
        title: of the kind.
        entries: of each item, where the request failed because all of them did.
    """

    def __init__(
        self,
        *,
        status: int,
        code: str,
        detail: str,
        request_id: str | None = None,
        retryable: bool = False,
        retry_after: float | None = None,
        errors: Sequence[Mapping[str, str]] = (),
        title: str = "",
        entries: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        super().__init__(detail)
        self.status, self.code, self.detail, self.title = status, code, detail, title
        self.request_id, self.retryable, self.retry_after = request_id, retryable, retry_after
        self.errors, self.entries = tuple(errors), tuple(entries)

    def __str__(self) -> str:
        where = "".join(f"; {self._place(error)}" for error in self.errors)
        request = f", request {self.request_id}" if self.request_id else ""
        return f"{self.detail}{where} ({self.status} {self.code}{request})"

    def _place(self, error: Mapping[str, str]) -> str:
        """One of the places, with what is wrong there unless that has been said."""
        place = error.get("pointer") or error.get("parameter") or "the request"
        return place if error["detail"] == self.detail else f"{place}: {error['detail']}"


class BadRequest(ApiError):
    """400, and other statuses that say that the request itself cannot be understood."""


class Unauthenticated(ApiError):
    """401: there is no valid API key."""


class Forbidden(ApiError):
    """403: the API key lacks a scope."""


class NotFound(ApiError):
    """404: no such model, file or job."""


class Conflict(ApiError):
    """409: the request conflicts with another one."""


class TooLarge(ApiError):
    """413: too many bytes or items."""


class Invalid(ApiError):
    """422: a part of the request is not valid; `errors` says which."""


class VideoRefused(Invalid):
    """The service does not take this video; `code` says why."""


class RateLimited(ApiError):
    """429: as much of this API key waits as may wait."""


class ServerFailed(ApiError):
    """500: the service or the model failed."""


class Unavailable(ApiError):
    """503: the service or the model cannot do it now."""


class DeadlinePassed(ApiError):
    """504: the service's deadline for the request passed."""


_BY_STATUS: dict[int, type[ApiError]] = {
    401: Unauthenticated,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    413: TooLarge,
    422: Invalid,
    429: RateLimited,
    502: Unavailable,
    503: Unavailable,
    504: DeadlinePassed,
}


def error_of(problem: Mapping[str, Any], *, status: int | None = None, retry_after: float | None = None) -> ApiError:
    """The error that a problem object means.

    Args:
        status: of the answer, where the problem object is the whole of it.
        retry_after: of the answer's header.
    """
    known = int(problem.get("status") or status or 500)
    code = str(problem.get("code") or f"http_{known}")
    kind = _BY_STATUS.get(known, ServerFailed if known >= 500 else BadRequest)
    if code.startswith("video_"):
        kind = VideoRefused
    after = problem.get("retry_after_s", retry_after)
    return kind(
        status=known,
        code=code,
        detail=str(problem.get("detail") or problem.get("title") or f"The service answered {known}."),
        request_id=problem.get("request_id"),
        retryable=bool(problem.get("retryable", known in (429, 502, 503))),
        retry_after=None if after is None else float(after),
        errors=problem.get("errors", ()),
        title=str(problem.get("title", "")),
        entries=problem.get("data", ()),
    )


def error_of_answer(status: int, headers: Mapping[str, str], body: bytes) -> ApiError:
    """The error of a whole answer, also when something between us and the service gave it."""
    try:
        problem = json.loads(body)
    except ValueError:
        problem = {}
    after = headers.get("retry-after", "")
    return error_of(
        problem if isinstance(problem, dict) else {},
        status=status,
        retry_after=float(after) if after.isdigit() else None,
    )
