"""What happens to a job, as it happens: listened to again from where the connection was lost."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import httpx2

from services.client.errors import ApiError, ScoringError, TimedOut, error_of_answer
from services.client.results import Event
from services.client.steps import pause_s
from services.client.transport import failures, timeout

_ENDED = frozenset({"succeeded", "failed", "canceled"})
_SILENCE_S = 60.0  # the service says something every quarter of it


class Listening:
    """Where a listener is: which event it saw last, and when to try again after a loss."""

    def __init__(self, job_id: str, *, after: int, deadline: float) -> None:
        self.path, self._deadline = f"/v1/jobs/{job_id}/events", deadline
        self.last, self._losses = after, 0
        self.has_ended = False

    def options(self) -> dict[str, Any]:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimedOut("the time for listening to the job is over; it goes on")
        headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": str(self.last)} if self.last else {})
        return {"headers": headers, "timeout": timeout(min(left, _SILENCE_S))}

    def event(self, sent: httpx2.ServerSentEvent) -> Event | None:
        """None for what has been seen before."""
        if not sent.id.isdigit() or int(sent.id) <= self.last:
            return None
        self.last, self._losses = int(sent.id), 0
        data = json.loads(sent.data)
        self.has_ended = data.get("state") in _ENDED
        return Event(id=self.last, kind=sent.event, data=data)

    def pause_s(self, lost: ScoringError | None) -> float:
        """How long to wait before listening again. Raises what was lost, where that makes no sense."""
        if isinstance(lost, ApiError) and not lost.retryable:
            raise lost
        after = (lost.retry_after or 0.0) if isinstance(lost, ApiError) else 0.0
        seconds = max(after, pause_s(self._losses))
        self._losses += 1
        if time.monotonic() + seconds >= self._deadline:
            raise lost or TimedOut("the time for listening to the job is over; it goes on")
        return seconds


def listen(http: httpx2.Client, listening: Listening, has_ended: Callable[[], bool]) -> Iterator[Event]:
    """All events to the job's end. `has_ended` asks the service, where a stream ended and said nothing."""
    while not listening.has_ended:
        lost: ScoringError | None = None
        before = listening.last
        try:
            with failures(http.base_url), http.stream("GET", listening.path, **listening.options()) as response:
                if response.status_code >= 400:
                    raise error_of_answer(response.status_code, response.headers, response.read())
                for sent in httpx2.EventSource(response):
                    if (event := listening.event(sent)) is not None:
                        yield event
        except TimedOut:
            listening.options()  # a silence is a loss; the end of our time is the end
        except ScoringError as error:
            lost = error
        if lost is None and listening.last == before and has_ended():
            return
        if not listening.has_ended:
            time.sleep(listening.pause_s(lost))


async def listen_async(
    http: httpx2.AsyncClient, listening: Listening, has_ended: Callable[[], Awaitable[bool]]
) -> AsyncIterator[Event]:
    """`listen` with asyncio."""
    while not listening.has_ended:
        lost: ScoringError | None = None
        before = listening.last
        try:
            with failures(http.base_url):
                async with http.stream("GET", listening.path, **listening.options()) as response:
                    if response.status_code >= 400:
                        raise error_of_answer(response.status_code, response.headers, await response.aread())
                    async for sent in httpx2.EventSource(response):
                        if (event := listening.event(sent)) is not None:
                            yield event
        except TimedOut:
            listening.options()
        except ScoringError as error:
            lost = error
        if lost is None and listening.last == before and await has_ended():
            return
        if not listening.has_ended:
            await asyncio.sleep(listening.pause_s(lost))
