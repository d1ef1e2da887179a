"""POST /v1/score."""

import httpx2
import pytest

from services.gateway.examples import CLIP, OTHER_CLIP, PROMPT

pytestmark = pytest.mark.asyncio(loop_scope="module")

GOOD = {"prompt": PROMPT, "video": {"data": CLIP}}
BAD = {"prompt": PROMPT, "video": {"data": "data:video/mp4;base64,AAAA"}}


async def test_an_item_gets_its_scores_with_all_that_belongs_to_them(client: httpx2.AsyncClient) -> None:
    response = await client.post("/v1/score", json={"items": [{**GOOD, "id": "mine"}]})
    assert response.status_code == 200, response.text
    body = response.json()
    (entry,) = body["data"]
    assert (body["object"], body["partial"], body["usage"]["scored"]) == ("list", False, 1)
    assert set(body["model"]) == {"name", "model", "revision", "files", "dtype"}
    assert (entry["index"], entry["id"], entry["object"]) == (0, "mine", "score")
    assert set(entry["scores"]) == {"VQ", "MQ", "TA"}
    assert all(set(score) == {"raw", "normalised"} for score in entry["scores"].values())
    assert isinstance(entry["reward"], float)
    assert entry["usage"]["frames"] == 9 and entry["usage"]["inference_ms"] > 0


async def test_entries_keep_the_order_of_the_items(client: httpx2.AsyncClient) -> None:
    other = {"prompt": PROMPT, "video": {"data": OTHER_CLIP}}
    body = (await client.post("/v1/score", json={"items": [GOOD, BAD, other, GOOD]})).json()
    assert body["partial"] is True
    assert [entry["index"] for entry in body["data"]] == [0, 1, 2, 3]
    first, second, third, fourth = body["data"]
    assert second["error"]["code"] == "video_container_not_allowed"
    assert second["error"]["errors"][0]["pointer"] == "/items/1/video"
    assert first["reward"] == fourth["reward"] != third["reward"]


async def test_if_nothing_can_be_scored_the_answer_is_a_problem_with_the_entries(client: httpx2.AsyncClient) -> None:
    response = await client.post("/v1/score", json={"items": [BAD, BAD]})
    body = response.json()
    assert response.status_code == 422 and response.headers["content-type"] == "application/problem+json"
    assert body["code"] == "video_container_not_allowed" and len(body["data"]) == 2
