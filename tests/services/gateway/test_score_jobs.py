"""Requests for scores that become jobs."""

from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx2
import pytest
import pytest_asyncio

from services.gateway.examples import CLIP, PROMPT
from tests.services.gateway.conftest import Service

pytestmark = pytest.mark.asyncio(loop_scope="module")

GOOD = {"prompt": PROMPT, "video": {"data": CLIP}}
BAD = {"prompt": PROMPT, "video": {"data": "data:video/mp4;base64,AAAA"}}
ASYNC = {"Prefer": "wait=10, respond-async;x=1"}


@pytest_asyncio.fixture(loop_scope="module")
async def running(make_service: Callable[..., Any]) -> AsyncIterator[httpx2.AsyncClient]:
    """A client of a service whose jobs are worked on."""
    service: Service = await make_service(limits={"sync_items": 2})
    async with service.app.router.lifespan_context(service.app), service.client(service.admin) as client:
        yield client


async def ended(client: httpx2.AsyncClient, response: httpx2.Response) -> dict[str, Any]:
    assert response.status_code == 202, response.text
    job = (await client.get(response.headers["location"], params={"wait": 30})).json()
    assert job["state"] in ("succeeded", "failed")
    return dict(job)


async def test_a_job_gives_what_the_request_would_have_been_answered(running: httpx2.AsyncClient) -> None:
    now = (await running.post("/v1/score", json={"items": [GOOD, BAD]})).json()
    response = await running.post("/v1/score", json={"items": [GOOD, BAD]}, headers=ASYNC)
    assert response.headers["preference-applied"] == "respond-async"
    later = (await ended(running, response))["result"]
    assert later["data"][0]["scores"] == now["data"][0]["scores"]
    assert later["data"][1]["error"]["code"] == now["data"][1]["error"]["code"]
    assert later["partial"] is True


async def test_more_items_than_are_answered_at_once_become_a_job(running: httpx2.AsyncClient) -> None:
    job = await ended(running, await running.post("/v1/score", json={"items": [GOOD] * 3}))
    assert job["state"] == "succeeded" and job["progress"] == {"done": 3, "failed": 0, "total": 3}
    assert [entry["index"] for entry in job["result"]["data"]] == [0, 1, 2]


async def test_a_job_of_which_nothing_can_be_scored_fails_with_the_problem(running: httpx2.AsyncClient) -> None:
    job = await ended(running, await running.post("/v1/score", json={"items": [BAD]}, headers=ASYNC))
    assert job["state"] == "failed"
    assert job["error"]["code"] == "video_container_not_allowed"


async def test_a_request_that_is_wrong_as_a_whole_is_refused_at_once(running: httpx2.AsyncClient) -> None:
    response = await running.post("/v1/score", json={"items": [GOOD], "model": "none"}, headers=ASYNC)
    assert (response.status_code, response.json()["code"]) == (404, "model_not_found")
