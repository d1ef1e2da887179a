"""The short way to a route gives the answers of the usual one."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest
from starlette.requests import Request
from starlette.responses import Response

from cluster.errors import StoreUnavailableError
from services.gateway.express import Express
from services.gateway.problem_kinds import FORBIDDEN
from services.gateway.problems import Problem
from services.gateway.routes import new_router

router = new_router()


@router.post("/quick")
async def quick(request: Request) -> Response:
    kind = (await request.body()).decode()
    if kind == "problem":
        raise Problem(FORBIDDEN)
    if kind == "store":
        raise StoreUnavailableError("away")
    return Response(f"{request.scope['route'].path} {kind}")


async def usual(scope: Any, receive: Any, send: Any) -> None:
    await Response("the usual way")(scope, receive, send)


@pytest.fixture
def client() -> httpx2.AsyncClient:
    express = Express(usual, routes=router.routes)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope["state"] = {"request_id": "id-1"}
        await express(scope, receive, send)

    return httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://localhost")


async def test_a_known_route_is_called_and_told_to_whoever_counts(client: httpx2.AsyncClient) -> None:
    assert (await client.post("/quick", content="hello")).text == "/quick hello"


@pytest.mark.parametrize(("method", "path"), [("GET", "/quick"), ("POST", "/quick/"), ("POST", "/other")])
async def test_everything_else_takes_the_usual_way(client: httpx2.AsyncClient, method: str, path: str) -> None:
    assert (await client.request(method, path)).text == "the usual way"


@pytest.mark.parametrize(("kind", "status", "retryable"), [("problem", 403, False), ("store", 503, True)])
async def test_what_an_endpoint_raises_is_answered_as_a_problem(
    client: httpx2.AsyncClient, kind: str, status: int, retryable: bool
) -> None:
    answer = await client.post("/quick", content=kind)
    assert answer.status_code == status and answer.headers["content-type"] == "application/problem+json"
    assert (answer.json()["request_id"], answer.json()["retryable"]) == ("id-1", retryable)
