"""What callers are told of each way in which scoring can go wrong, and what holds while it goes on."""

from __future__ import annotations

import asyncio
import base64
import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from cluster.serving.values import Failure, FailureCode, ModelFacts, ScoreItem, Scores
from policies.errors import StallError
from services.gateway.examples import CLIP, OTHER_CLIP, PROMPT
from services.media.guard import MediaGuard
from services.media.refusal import Code, GuardBusy, GuardUnavailable, MediaRefused
from services.scoring.model import Outcome, QueueFull
from tests.services.gateway.conftest import Service
from tests.services.in_process_model import InProcessModels
from tests.services.media.clips import clip

pytestmark = pytest.mark.asyncio(loop_scope="module")

FACTS = ModelFacts(name="toy", model="toy", revision="1", files={}, dimensions=("A", "B"), dtype="float32")
GOOD = {"prompt": PROMPT, "video": {"data": CLIP}}
BAD = {"prompt": PROMPT, "video": {"data": "data:video/mp4;base64,AAAA"}}


def scores(reward: float = 1.0, **raw: float) -> Scores:
    values = {"A": 1.0, "B": 2.0} | raw
    return Scores(raw=values, normalised=values, reward=reward)


class ToyModel:
    """Gives what it is told to: a result, or something to raise, or what a function says of an item."""

    def __init__(self, gives: Any) -> None:
        self.gives = gives
        self.facts, self.is_ready, self.queued = FACTS, True, 0
        self.calls: list[tuple[int, str, bool]] = []

    async def score(
        self, items: Sequence[ScoreItem], *, caller: str, deadline: float, alone: bool = False
    ) -> list[Outcome]:
        self.calls.append((len(items), caller, alone))
        if isinstance(self.gives, Exception):
            raise self.gives
        results = [self.gives(item) if callable(self.gives) else self.gives for item in items]
        return [Outcome(result=result, facts=FACTS, queue_ms=1.0, inference_ms=2.0) for result in results]


@pytest.fixture
def serve_toy(make_service: Callable[..., Any]) -> Callable[..., Any]:
    async def make(gives: Any, **deployment: Any) -> Service:
        config = {"models_config": {"toy": deployment}}
        made: Service = await make_service(models=InProcessModels({"toy": ToyModel(gives)}), **config)
        return made

    return make


async def post(service: Service, *items: Any, path: str = "/v1/score", **more: Any) -> Any:
    async with service.client(service.admin) as client:
        return await client.post(path, json={"items": items, **more})


FAULTS = [
    (Failure(code=FailureCode.INPUT_REFUSED, detail="No."), 422, "input_refused", False),
    (Failure(code=FailureCode.NON_FINITE, detail="No."), 500, "non_finite_score", False),
    (Failure(code=FailureCode.MODEL_FAILED, detail="No."), 500, "model_failed", False),
    (Failure(code=FailureCode.MODEL_UNAVAILABLE, detail="No."), 503, "model_unavailable", True),
    (Failure(code=FailureCode.DEADLINE_PASSED, detail="No."), 504, "deadline_passed", True),
    (QueueFull(retry_after_s=2.5, by_caller=True), 429, "caller_queue_full", True),
    (QueueFull(retry_after_s=2.5, by_caller=False), 503, "queue_full", True),
    (RuntimeError("secret"), 500, "internal_error", False),
]


@pytest.mark.parametrize(("gives", "status", "code", "retryable"), FAULTS)
async def test_each_fault_of_a_model_is_a_problem_of_its_own(
    serve_toy: Any, gives: Any, status: int, code: str, retryable: bool
) -> None:
    response = await post(await serve_toy(gives), GOOD)
    body = response.json()
    assert (response.status_code, body["code"], body["retryable"]) == (status, code, retryable)
    assert body["data"][0]["error"]["code"] == code
    place = "/items/0" if code == "input_refused" else "/items/0/video"  # the prompt may be to blame
    assert [error["pointer"] for error in body["data"][0]["error"]["errors"]] == [place]
    assert "secret" not in response.text
    if isinstance(gives, QueueFull):
        assert (response.headers["retry-after"], body["retry_after_s"]) == ("3", 3)


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (GuardBusy("secret"), 503, "queue_full"),
        (GuardUnavailable("secret"), 503, "decoder_unavailable"),
        (StallError("secret"), 504, "deadline_passed"),
    ],
)
async def test_each_fault_of_the_decoders_is_a_problem_of_its_own(
    serve_toy: Any, error: Exception, status: int, code: str
) -> None:
    service = await serve_toy(scores())

    class Broken(MediaGuard):
        async def decode(self, data: bytes, *, deadline_s: float) -> Any:
            raise error

    service.app.state.engine.videos._gateway = Gatewayish(service, Broken(slots=1))
    response = await post(service, GOOD)
    assert (response.status_code, response.json()["code"]) == (status, code)
    assert response.json()["retryable"] and "secret" not in response.text


async def test_a_large_request_leaves_others_a_place_in_the_decoders_line(serve_toy: Any) -> None:
    service = await serve_toy(scores())
    decoded: list[int] = []
    begun: list[int] = []
    opened = asyncio.Event()

    class Slow(MediaGuard):
        async def decode(self, data: bytes, *, deadline_s: float) -> Any:
            begun.append(len(data))
            await opened.wait()
            decoded.append(len(data))
            raise MediaRefused(Code.DAMAGED)

    line = service.app.state.engine.videos
    line._gateway = Gatewayish(service, Slow(slots=1))
    videos = ["data:video/mp4;base64," + base64.b64encode(b"x" * size).decode() for size in range(1, 101)]
    large = asyncio.create_task(post(service, *[{"prompt": PROMPT, "video": {"data": url}} for url in videos[:99]]))
    while len(begun) < line.at_once:
        await asyncio.sleep(0.001)
    lone = asyncio.create_task(post(service, {"prompt": PROMPT, "video": {"data": videos[99]}}))
    while not line._line._waiters:
        await asyncio.sleep(0.001)
    opened.set()
    await asyncio.gather(large, lone)
    assert len(decoded) == 100 and decoded.index(100) <= 2 * line.at_once


class Gatewayish:
    """A gateway with another guard."""

    def __init__(self, service: Service, guard: MediaGuard) -> None:
        self.config, self.files, self.store = service.gateway.config, service.gateway.files, service.gateway.store
        self.guard = guard


@pytest.mark.parametrize(
    "result",
    [scores(A=math.nan), scores(B=math.inf), scores(reward=math.nan), scores(reward=-math.inf)],
)
async def test_a_score_that_is_not_finite_is_an_error_and_nothing_else(serve_toy: Any, result: Scores) -> None:
    service = await serve_toy(result)
    for path, body in (
        ("/v1/score", {"items": [GOOD]}),
        ("/v1/compare", {"prompt": PROMPT, "videos": [{"data": CLIP}, {"data": OTHER_CLIP}]}),
    ):
        async with service.client(service.admin) as client:
            response = await client.post(path, json=body)
        assert (response.status_code, response.json()["code"]) == (500, "non_finite_score")
        assert not any(word in response.text for word in ("NaN", "Infinity", '"scores"', '"reward"'))


async def test_only_the_dimensions_that_were_asked_for_are_given_and_the_reward_is_the_same(serve_toy: Any) -> None:
    service = await serve_toy(scores(reward=7.0))
    entry = (await post(service, GOOD, dimensions=["B"])).json()["data"][0]
    assert (set(entry["scores"]), entry["reward"]) == ({"B"}, 7.0)


async def test_a_video_of_several_items_is_decoded_once(serve_toy: Any) -> None:
    service = await serve_toy(scores())
    videos = ["data:video/mp4;base64," + base64.b64encode(clip(seed=seed)).decode() for seed in (90, 91)]
    await post(service, *[{"prompt": PROMPT, "video": {"data": videos[index % 2]}} for index in range(20)])
    assert 'onlinevpo_videos_total{outcome="decoded"} 2.0' in service.app.state.metrics.text().decode()


async def test_what_is_alike_is_refused_alike_though_it_is_decoded_once(serve_toy: Any) -> None:
    body = (await post(await serve_toy(scores()), BAD, GOOD, BAD)).json()
    assert [entry.get("error", {}).get("code") for entry in body["data"]] == [
        "video_container_not_allowed", None, "video_container_not_allowed",
    ]  # fmt: skip


async def test_an_item_that_meets_a_full_queue_has_that_in_its_place(serve_toy: Any) -> None:
    calls = iter([scores(), QueueFull(retry_after_s=1, by_caller=True), scores()])

    def give(item: ScoreItem) -> Scores:
        result = next(calls)
        if isinstance(result, Exception):
            raise result
        return result

    body = (await post(await serve_toy(give), GOOD, GOOD, GOOD)).json()
    errors = [entry["error"] for entry in body["data"] if "error" in entry]
    assert body["partial"] and [error["code"] for error in errors] == ["caller_queue_full"]


async def test_one_caller_cannot_take_what_the_gateway_holds(serve_toy: Any) -> None:
    opened = asyncio.Event()
    service = await serve_toy(scores(), queue_items_per_caller=2, queue_items=3)
    model = service.gateway.models.get("toy")
    score = model.score

    async def held(*args: Any, **more: Any) -> Any:
        await opened.wait()
        return await score(*args, **more)

    model.score = held
    first = asyncio.create_task(post(service, GOOD, GOOD))
    while not service.app.state.engine.admission._of_model["toy"]:
        await asyncio.sleep(0.001)
    refused = await post(service, GOOD)
    assert (refused.status_code, refused.json()["code"]) == (429, "caller_queue_full")
    other = await service.token("score")
    async with service.client(other) as client:
        full = await client.post("/v1/score", json={"items": [GOOD, GOOD]})
    assert (full.status_code, full.json()["code"]) == (503, "queue_full")
    assert full.headers["retry-after"] and refused.headers["retry-after"]
    opened.set()
    assert (await first).status_code == 200
    assert (await post(service, GOOD)).status_code == 200


async def test_the_deadline_is_the_callers(serve_toy: Any) -> None:
    service = await serve_toy(scores())
    response = await post(service, GOOD, timeout_s=1e-9)
    assert (response.status_code, response.json()["code"]) == (504, "deadline_passed")
    assert service.gateway.models.get("toy").calls == []


async def test_256_items_of_which_20_are_bad_give_236_scores_and_20_problems_in_order(
    shared_service: Service,
) -> None:
    ways = [
        BAD,
        {"prompt": PROMPT, "video": {"file_id": "0" * 64}},
        {"prompt": PROMPT, "video": {"uri": "root/a.mp4"}},
        {"prompt": "a video of another world", "video": {"data": CLIP}},
        {"prompt": PROMPT, "video": {"url": "https://example.com/a.mp4"}},
    ]
    bad = {13 * index: ways[index % len(ways)] for index in range(20)}
    items = [
        bad.get(index, {"prompt": PROMPT, "video": {"data": (CLIP, OTHER_CLIP)[index % 2]}}) for index in range(256)
    ]
    response = await post(shared_service, *[{**item, "id": f"item-{index}"} for index, item in enumerate(items)])
    body = response.json()
    assert (response.status_code, body["partial"], body["usage"]["scored"]) == (200, True, 236)
    assert [entry["id"] for entry in body["data"]] == [f"item-{index}" for index in range(256)]
    assert [index for index, entry in enumerate(body["data"]) if "error" in entry] == sorted(bad)
    rewards = {entry["reward"] for entry in body["data"] if "reward" in entry}
    assert len(rewards) == 2
