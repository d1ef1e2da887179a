"""Addresses of what comes later, so that whoever looks for it is told."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from services.gateway.problem_kinds import NOT_OFFERED
from services.gateway.problems import Problem
from services.gateway.routes import new_router

router = new_router()


@router.post("/v1/batches", include_in_schema=False)
@router.post("/v1/webhooks", include_in_schema=False)
async def later(request: Request) -> Response:
    raise Problem(NOT_OFFERED)
