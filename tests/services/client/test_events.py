import json

import httpx2
import pytest

from services.client import ApiError, NotFound, TimedOut
from tests.services.client.scripted import Clock, Scripted, problem

JOB = "0006421f3c5e8a2b9d4c1f7a60e35b88"


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def stream(*events: tuple[int, dict[str, object]], cut: bool = False) -> httpx2.Response:
    def content() -> object:
        yield b"retry: 1000\n\n:\n\n"
        for number, data in events:
            name = "progress" if "done" in data else "state"
            yield f"id: {number}\nevent: {name}\ndata: {json.dumps(data)}\n\n".encode()
        if cut:
            raise httpx2.ReadError("cut")

    return httpx2.Response(200, headers={"content-type": "text/event-stream"}, content=content())  # type: ignore[arg-type]


QUEUED, RUNNING, ENDED = {"state": "queued"}, {"state": "running", "attempt": 1}, {"state": "succeeded"}
PROGRESS = {"done": 1, "failed": 0, "total": 2}


def test_events_come_in_order_to_the_jobs_end(clock: Clock) -> None:
    service = Scripted(stream((1, QUEUED), (2, RUNNING), (3, PROGRESS), (4, ENDED)))
    events = list(service.client().jobs.events(JOB))
    assert [(event.id, event.kind) for event in events] == [(1, "state"), (2, "state"), (3, "progress"), (4, "state")]
    assert events[2].data == PROGRESS and len(service.requests) == 1


def test_a_lost_connection_is_taken_up_where_it_was(clock: Clock) -> None:
    service = Scripted(
        stream((1, QUEUED), (2, RUNNING), cut=True), httpx2.ConnectError("down"), stream((2, RUNNING), (3, ENDED))
    )
    assert [event.id for event in service.client().jobs.events(JOB)] == [1, 2, 3]
    assert [request.headers.get("Last-Event-ID") for request in service.requests] == [None, "2", "2"]


async def test_asyncio_listens_the_same_way() -> None:
    service = Scripted(stream((1, QUEUED)), stream((2, ENDED)))
    async with service.async_client() as client:
        assert [event.id async for event in client.jobs.events(JOB)] == [1, 2]
    assert service.requests[1].headers["Last-Event-ID"] == "1"


def test_a_job_that_had_ended_has_no_more_events(clock: Clock) -> None:
    job = {"id": JOB, "object": "job", "state": "succeeded", "attempt": 1, "created_at": 1.0, "ended_at": 2.0}
    service = Scripted(stream(), httpx2.Response(200, json=job))
    assert list(service.client().jobs.events(JOB, after=4)) == []


def test_listening_ends_with_its_time_or_with_what_will_not_pass(clock: Clock) -> None:
    with pytest.raises(NotFound):
        list(Scripted(problem(404, "job_not_found")).client().jobs.events(JOB))
    with pytest.raises(ApiError, match="503"):
        list(Scripted(problem(503, "queue_full", retryable=True)).client().jobs.events(JOB, timeout_s=20))
    running = {"id": JOB, "object": "job", "state": "running", "attempt": 1, "created_at": 1.0, "ended_at": None}

    def answer(request: httpx2.Request) -> httpx2.Response:
        return stream() if request.url.path.endswith("/events") else httpx2.Response(200, json=running)

    with pytest.raises(TimedOut, match="it goes on"):
        list(Scripted(answer).client().jobs.events(JOB, timeout_s=20))
