"""POST /v1/compare."""

import itertools
from typing import Any

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.gateway.comparison import ranked
from services.gateway.examples import CLIP, OTHER_CLIP, PROMPT
from tests.services.gateway.test_engine import ToyModel, scores, serve_toy

__all__ = ["serve_toy"]
pytestmark = pytest.mark.asyncio(loop_scope="module")

GOOD, OTHER, BAD = {"data": CLIP}, {"data": OTHER_CLIP}, {"data": "data:video/mp4;base64,AAAA"}


async def compare(client: httpx2.AsyncClient, *videos: Any, **more: Any) -> httpx2.Response:
    return await client.post("/v1/compare", json={"prompt": PROMPT, "videos": videos, **more})


async def test_candidates_are_ranked_by_reward(shared_client: httpx2.AsyncClient) -> None:
    body = (await compare(shared_client, OTHER, GOOD)).json()
    first, second = body["ranking"]
    assert ([first["index"], second["index"]], [first["rank"], second["rank"]]) == ([1, 0], [1, 2])
    assert second["margin_to_best"] == first["margin_to_next"] == first["reward"] - second["reward"] > 0
    assert (body["object"], body["tie"], body["partial"]) == ("comparison", False, False)
    assert set(body["data"][0]["scores"]) == {"VQ", "MQ", "TA"}


async def test_equal_candidates_are_tied(shared_client: httpx2.AsyncClient) -> None:
    body = (await compare(shared_client, GOOD, OTHER, GOOD)).json()
    assert body["tie"] is True
    assert [(place["rank"], place["index"], place["tie"]) for place in body["ranking"]] == [
        (1, 0, True), (1, 2, True), (3, 1, False),
    ]  # fmt: skip


async def test_a_tie_is_what_the_caller_calls_one(shared_client: httpx2.AsyncClient) -> None:
    assert (await compare(shared_client, GOOD, OTHER, tie_margin=100)).json()["tie"] is True


async def test_a_candidate_that_fails_is_not_ranked(shared_client: httpx2.AsyncClient) -> None:
    body = (await compare(shared_client, GOOD, BAD, OTHER)).json()
    assert body["partial"] is True and [place["index"] for place in body["ranking"]] == [0, 2]
    assert body["data"][1]["error"]["errors"][0]["pointer"] == "/videos/1"


async def test_one_candidate_that_is_left_cannot_be_compared(shared_client: httpx2.AsyncClient) -> None:
    response = await compare(shared_client, GOOD, BAD)
    assert (response.status_code, response.json()["code"]) == (422, "too_few_candidates")
    assert len(response.json()["data"]) == 2


async def test_one_candidate_is_too_few(shared_client: httpx2.AsyncClient) -> None:
    response = await compare(shared_client, GOOD)
    assert (response.status_code, response.json()["errors"][0]["pointer"]) == (422, "/videos")


async def test_candidates_are_one_batch_of_their_own(serve_toy: Any) -> None:
    service = await serve_toy(scores())
    async with service.client(service.admin) as client:
        assert (await compare(client, GOOD, OTHER, GOOD)).status_code == 200
    model = service.gateway.models.get("toy")
    assert isinstance(model, ToyModel)
    assert [(count, alone) for count, _, alone in model.calls] == [(3, True)]


async def test_a_reward_does_not_depend_on_how_it_was_asked_for(shared_client: httpx2.AsyncClient) -> None:
    compared = (await compare(shared_client, GOOD, OTHER)).json()["data"]
    items = [{"prompt": PROMPT, "video": video} for video in (GOOD, OTHER)]
    one_by_one = (await shared_client.post("/v1/score", json={"items": items})).json()["data"]
    assert [entry["reward"] for entry in compared] == [entry["reward"] for entry in one_by_one]


@given(rewards=st.lists(st.floats(-100, 100), min_size=1, max_size=12), margin=st.floats(0, 10))
async def test_a_ranking_is_in_order_and_its_margins_add_up(rewards: list[float], margin: float) -> None:
    ranking = ranked([{"index": index, "reward": reward} for index, reward in enumerate(rewards)], margin)
    assert sorted(place["index"] for place in ranking) == list(range(len(rewards)))
    assert [place["reward"] for place in ranking] == sorted(rewards, reverse=True)
    for place, following in itertools.pairwise(ranking):
        tied = place["margin_to_next"] <= margin
        assert (place["rank"] == following["rank"]) == tied
        assert not tied or (place["tie"] and following["tie"])
    assert "margin_to_next" not in ranking[-1]
