import json
from pathlib import Path

import httpx2
import pytest

from services.client import (
    ApiError,
    Conflict,
    Invalid,
    NotFound,
    RateLimited,
    Score,
    ServerFailed,
    TimedOut,
    Unavailable,
    Unreachable,
    VideoRefused,
)  # fmt: skip
from tests.services.client.scripted import Clock, Scripted, entry, problem, scores

LOST = httpx2.ConnectError("refused")
BUSY = problem(503, "queue_full", retryable=True, retry_after_s=3)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


@pytest.mark.parametrize(
    "first",
    [LOST, httpx2.RemoteProtocolError("cut"), BUSY, problem(429, "caller_queue_full", retryable=True),
     problem(408, "request_timeout", retryable=True), problem(409, "idempotency_key_in_use", retryable=True),
     httpx2.Response(502, content=b"<html>")],
    ids=["refused", "cut off", "503", "429", "408", "still running", "a proxy's 502"],
)  # fmt: skip
def test_what_may_pass_is_tried_again_as_the_same_request(first: httpx2.Response, clock: Clock) -> None:
    service = Scripted(first, first, scores(entry()))
    assert service.client().score(video=b"clip", prompt="p").reward == 1.0
    one, two, three = service.requests
    assert one.headers["Idempotency-Key"] == two.headers["Idempotency-Key"] == three.headers["Idempotency-Key"]
    assert one.content == two.content == three.content


def test_each_call_has_a_key_of_its_own(clock: Clock) -> None:
    service = Scripted(scores(entry()))
    for _ in range(2):
        service.client().score(video=b"clip", prompt="p")
    assert len({request.headers["Idempotency-Key"] for request in service.requests}) == 2


def test_the_service_says_how_long_to_wait(clock: Clock) -> None:
    Scripted(BUSY, scores(entry())).client().score(video=b"clip", prompt="p")
    assert clock.pauses == [3.0]


def test_pauses_grow_differ_and_have_a_bound(clock: Clock) -> None:
    with pytest.raises(Unreachable):
        Scripted(LOST).client(timeout_s=60).score(video=b"clip", prompt="p")
    assert clock.now <= 60
    longest = [0.2, 0.4, 0.8, 1.6, 3.2] + [5.0] * len(clock.pauses)
    assert all(0.5 * bound <= pause <= bound for pause, bound in zip(clock.pauses, longest, strict=False))
    assert len(set(clock.pauses)) == len(clock.pauses) > 10


@pytest.mark.parametrize(("answer", "kind"), [(LOST, Unreachable), (BUSY, Unavailable)])
def test_at_the_end_of_the_calls_time_the_last_failure_is_raised(
    answer: httpx2.Response, kind: type[Exception], clock: Clock
) -> None:
    with pytest.raises(kind):
        Scripted(answer).client().score(video=b"clip", prompt="p", timeout_s=7)
    assert clock.now <= 7


def test_a_wait_beyond_the_calls_time_is_not_begun(clock: Clock) -> None:
    with pytest.raises(RateLimited) as caught:
        Scripted(problem(429, "caller_queue_full", retryable=True, retry_after_s=60)).client(timeout_s=30).score(
            video=b"clip", prompt="p"
        )
    assert clock.pauses == [] and caught.value.retry_after == 60


def test_silence_is_the_end_of_the_call(clock: Clock) -> None:
    service = Scripted(httpx2.ReadTimeout("late"))
    with pytest.raises(TimedOut):
        service.client().score(video=b"clip", prompt="p")
    assert len(service.requests) == 1


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [(404, "model_not_found", NotFound), (409, "idempotency_key_reused", Conflict), (422, "invalid_request", Invalid),
     (413, "video_too_large", VideoRefused), (500, "internal_error", ServerFailed)],
)  # fmt: skip
def test_what_will_not_pass_is_raised_at_once_with_all_that_is_known(
    status: int, code: str, kind: type[ApiError], clock: Clock
) -> None:
    where = [{"pointer": "/items/0/prompt", "detail": "Too long."}]
    service = Scripted(problem(status, code, errors=where))
    with pytest.raises(
        kind, match=rf"A sentence\.; /items/0/prompt: Too long\. \({status} {code}, request r1\)"
    ) as caught:
        service.client().score(video=b"clip", prompt="p")
    error = caught.value
    assert (error.status, error.code, error.request_id, error.retryable) == (status, code, "r1", False)
    assert len(service.requests) == 1


def failed(index: int, status: int, code: str, *, retryable: bool) -> dict[str, object]:
    error = {"status": status, "code": code, "detail": "No.", "retryable": retryable}
    return {"index": index, "id": None, "object": "score", "error": error}


def test_items_that_the_service_could_not_score_just_then_are_sent_again_alone(clock: Clock) -> None:
    unavailable = failed(1, 503, "model_unavailable", retryable=True)
    damaged = failed(2, 422, "video_damaged", retryable=False)
    service = Scripted(scores(entry(0), unavailable, damaged), scores(entry(0, reward=5.0)))
    first, second, third = service.client().score_many([("0" * 64, "a"), ("1" * 64, "b"), ("2" * 64, "c")])
    assert isinstance(first, Score) and isinstance(second, Score) and second.reward == 5.0
    assert isinstance(third, VideoRefused)
    assert [[item["prompt"] for item in body["items"]] for body in service.bodies] == [["a", "b", "c"], ["b"]]


def test_a_request_of_which_nothing_was_scored_has_an_error_for_each_item(clock: Clock) -> None:
    entries = [failed(0, 422, "video_damaged", retryable=False), failed(1, 404, "file_not_found", retryable=False)]
    service = Scripted(problem(422, "no_item_scored", data=entries))
    assert [type(one) for one in service.client().score_many([("0" * 64, "a"), ("1" * 64, "b")])] == [
        VideoRefused,
        NotFound,
    ]


def test_every_video_is_uploaded_once_however_often_it_occurs(clock: Clock, tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"one")
    stored = httpx2.Response(201, json={"id": "x", "object": "file", "bytes": 3, "created_at": 1.0})

    def answer(request: httpx2.Request) -> httpx2.Response:
        if request.url.path == "/v1/files":
            return stored
        count = len(json.loads(request.content)["items"])
        return scores(*map(entry, range(count)))

    service = Scripted(answer)
    client = service.client()
    for _ in range(2):
        assert len(client.score_many([(tmp_path / "a.mp4", "a"), (b"one", "b"), (b"two", "c")])) == 3
    uploads = [request.content for request in service.requests if request.url.path == "/v1/files"]
    assert uploads == [b"one", b"two"]


def test_many_items_are_several_requests_in_their_order(clock: Clock) -> None:
    def answer(request: httpx2.Request) -> httpx2.Response:
        items = json.loads(request.content)["items"]
        return scores(*(entry(index, reward=float(item["prompt"])) for index, item in enumerate(items)))

    service = Scripted(answer)
    results = service.client().score_many([("0" * 64, str(number)) for number in range(300)])
    assert [result.reward for result in results if isinstance(result, Score)] == list(map(float, range(300)))
    assert len(service.requests) == 3


async def test_asyncio_takes_the_same_steps() -> None:
    service = Scripted(httpx2.Response(503), LOST, scores(entry()))
    async with service.async_client() as client:
        assert (await client.score(video=b"clip", prompt="p")).reward == 1.0
    assert len({request.headers["Idempotency-Key"] for request in service.requests}) == 1
