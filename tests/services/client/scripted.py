"""A service that answers from a list, and remembers what it was asked. No time passes while a client waits for it."""

import json
from collections.abc import Callable
from typing import Any

import httpx2
import pytest

from services.client import AsyncClient, Client

Answer = httpx2.Response | httpx2.TransportError | Callable[[httpx2.Request], httpx2.Response]
KEY = "ovpo_0123456789abcdef_" + "0" * 64


def problem(status: int, code: str, *, retryable: bool = False, **more: Any) -> httpx2.Response:
    body = {"status": status, "code": code, "detail": "A sentence.", "request_id": "r1", "retryable": retryable, **more}
    headers = {"Retry-After": str(body["retry_after_s"])} if "retry_after_s" in body else {}
    return httpx2.Response(status, headers=headers, content=json.dumps(body))


def entry(index: int = 0, reward: float = 1.0) -> dict[str, Any]:
    return {
        "index": index, "id": None, "object": "score", "scores": {"VQ": {"raw": 2.0, "normalised": reward}},
        "reward": reward, "model": {"name": "shapes", "revision": "r", "files": {"a": "b"}},
        "usage": {"frames": 9, "decode_ms": 1.0, "queue_ms": 2.0, "inference_ms": 3.0},
    }  # fmt: skip


def scores(*entries: dict[str, Any]) -> httpx2.Response:
    model = {"name": "shapes", "model": "shapes", "revision": "r", "files": {"a": "b"}, "dtype": "float32"}
    return httpx2.Response(200, json={"object": "list", "model": model, "data": list(entries)})


class Scripted:
    """Gives its answers in turn; the last one again and again."""

    def __init__(self, *answers: Answer) -> None:
        self._answers = list(answers)
        self.requests: list[httpx2.Request] = []

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        request.read()
        self.requests.append(request)
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, httpx2.TransportError):
            raise answer
        return answer(request) if callable(answer) else answer

    def client(self, **more: Any) -> Client:
        return Client("http://test", api_key=KEY, transport=httpx2.MockTransport(self), **more)

    def async_client(self, **more: Any) -> AsyncClient:
        async def answer(request: httpx2.Request) -> httpx2.Response:
            await request.aread()
            given = self(request)
            return httpx2.Response(given.status_code, headers=given.headers, content=given.read())

        return AsyncClient("http://test", api_key=KEY, transport=httpx2.MockTransport(answer), **more)

    @property
    def bodies(self) -> list[Any]:
        return [json.loads(request.content) for request in self.requests]


class Clock:
    """A time that only pauses move."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.pauses = 0.0, list[float]()
        monkeypatch.setattr("time.monotonic", lambda: self.now)
        monkeypatch.setattr("time.sleep", self._sleep)

    def _sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds
