"""Whether the service lives and can do its work, and how much it does."""

from __future__ import annotations

import asyncio

from fastapi.responses import PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.requests import Request
from starlette.responses import Response

from cluster.errors import StoreUnavailableError
from services.gateway.descriptions import json_response
from services.gateway.problem_kinds import NOT_READY
from services.gateway.problems import Problem
from services.gateway.responses import Alive, Ready
from services.gateway.routes import answer, current, new_router, problems
from services.gateway.state import Gateway

router = new_router()
_STORE_S = 2.0
_RETRY_S = 1.0


@router.get(
    "/livez", tags=["health"], operation_id="livez", summary="Whether the process lives", response_model=Alive,
    responses={200: json_response("It lives"), **problems()},
)  # fmt: skip
async def livez(request: Request) -> Response:
    """Needs no key."""
    return answer({"status": "alive"})


@router.get(
    "/readyz", tags=["health"], operation_id="readyz", summary="Whether requests can be answered", response_model=Ready,
    responses={200: json_response("They can"), **problems()},
)  # fmt: skip
async def readyz(request: Request) -> Response:
    """503 with the parts that fail, if any does."""
    if failing := await _failing(current(request)):
        raise Problem(NOT_READY, retry_after_s=_RETRY_S, more={"failing": failing})
    return answer({"status": "ready"})


_TEXT = {"description": "Metrics", "content": {"text/plain": {"schema": {"type": "string"}}}}


@router.get(
    "/metrics", tags=["health"], operation_id="metrics", summary="Prometheus metrics", response_class=PlainTextResponse,
    responses={200: _TEXT, **problems()},
)  # fmt: skip
async def metrics(request: Request) -> Response:
    """Requests, queues, decoding, scoring."""
    return PlainTextResponse(request.app.state.metrics.text(), media_type=CONTENT_TYPE_LATEST)


async def _failing(gateway: Gateway) -> list[str]:
    failing = ["draining"] if gateway.desk.is_closing else []
    for name in gateway.models.names:
        model = gateway.models.get(name)
        if model is None or not model.is_ready:
            failing.append(f"models/{name}")
    if not gateway.guard.pids:
        failing.append("decoders")
    try:
        async with asyncio.timeout(_STORE_S):
            await gateway.store.ping()
    except (StoreUnavailableError, TimeoutError):
        failing.append("store")
    return failing
