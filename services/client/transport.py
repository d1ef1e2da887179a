"""Takes a plan's steps over HTTP, with and without asyncio."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import httpx2

from services.client.errors import ScoringError, TimedOut, Unreachable
from services.client.steps import Answer, Pause, Plan, Request, Step, Work

T = TypeVar("T")

CONNECT_S = 10.0
_CHUNK = 2**18


def timeout(seconds: float) -> httpx2.Timeout:
    """For one exchange that may take so long."""
    return httpx2.Timeout(seconds, connect=min(seconds, CONNECT_S))


def failure(error: httpx2.TransportError, url: object) -> ScoringError:
    """What a failed exchange means for the call. The text of a failure never has the request's content in it."""
    if isinstance(error, httpx2.ReadTimeout | httpx2.WriteTimeout):
        return TimedOut("the service did not answer within the time of the call")
    return Unreachable(f"no answer from {url}: {type(error).__name__}{f' ({error})' if str(error) else ''}")


def run(plan: Plan[T], http: httpx2.Client) -> T:
    """Takes the steps of a plan to its end."""

    def take(step: Step) -> Any:
        if isinstance(step, Pause):
            return time.sleep(step.seconds)
        if isinstance(step, Work):
            return step.run()
        body = _chunks(step.content) if isinstance(step.content, Path) else step.content
        with failures(http.base_url):
            return _answer(http.request(step.method, step.path, content=body, **_options(step)))

    try:
        step = next(plan)
        while True:
            try:
                answer = take(step)
            except Exception as error:
                step = plan.throw(error)
            else:
                step = plan.send(answer)
    except StopIteration as end:
        value: T = end.value
        return value


async def run_async(plan: Plan[T], http: httpx2.AsyncClient) -> T:
    """`run` with asyncio."""

    async def take(step: Step) -> Any:
        if isinstance(step, Pause):
            return await asyncio.sleep(step.seconds)
        if isinstance(step, Work):
            return await asyncio.to_thread(step.run)
        body = _chunks_async(step.content) if isinstance(step.content, Path) else step.content
        with failures(http.base_url):
            return _answer(await http.request(step.method, step.path, content=body, **_options(step)))

    try:
        step = next(plan)
        while True:
            try:
                answer = await take(step)
            except Exception as error:
                step = plan.throw(error)
            else:
                step = plan.send(answer)
    except StopIteration as end:
        value: T = end.value
        return value


@contextmanager
def failures(url: object) -> Iterator[None]:
    """Turns what the HTTP library raises into this client's errors."""
    try:
        yield
    except httpx2.TransportError as error:
        raise failure(error, url) from error


def _options(request: Request) -> dict[str, Any]:
    headers = dict(request.headers)
    if isinstance(request.content, Path):
        # announced, so that a file that is too large is refused before it is sent
        headers["Content-Length"] = str(request.content.stat().st_size)
    return {"params": request.params, "headers": headers, "timeout": timeout(request.timeout_s)}


def _answer(response: httpx2.Response) -> Answer:
    headers = {name.lower(): value for name, value in response.headers.items()}
    return Answer(status=response.status_code, headers=headers, body=response.content)


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            yield chunk


async def _chunks_async(path: Path) -> AsyncIterator[bytes]:
    with path.open("rb") as file:
        while chunk := await asyncio.to_thread(file.read, _CHUNK):
            yield chunk
