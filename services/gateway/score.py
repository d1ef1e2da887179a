"""POST /v1/score."""

from __future__ import annotations

import time

from starlette.requests import Request
from starlette.responses import Response

from services.gateway.checking import check_score
from services.gateway.descriptions import SCORE_EXAMPLES, json_request, json_response
from services.gateway.engine import Engine, Order
from services.gateway.jobs_accept import accepted
from services.gateway.jobs_schemas import JobView
from services.gateway.json_body import json_body
from services.gateway.responses import ScoreList
from services.gateway.routes import answer, current, needs, new_router, problems, request_id

router = new_router()

_JOB = {
    "description": "A job that will have the scores", "model": JobView,
    "headers": {"Location": {"description": "Of the job.", "schema": {"type": "string"}}},
}  # fmt: skip
_PREFER = {
    "name": "Prefer", "in": "header", "required": False, "description": "`respond-async`: answer with a job at once.",
    "schema": {"type": "string"}, "example": "respond-async",
}  # fmt: skip


@router.post(
    "/v1/score", tags=["scores"], operation_id="score", summary="Score videos against their prompts",
    response_model=ScoreList, openapi_extra=json_request("ScoreRequest", SCORE_EXAMPLES) | {"parameters": [_PREFER]},
    responses={200: json_response("Scores"), 202: _JOB, **problems(409, 415, 422, 429, 504)},
)  # fmt: skip
async def score(request: Request) -> Response:
    """Scores videos, in the order of the items.

    An item that fails has its problem in its place, and `partial` is true. If all fail, the answer is a problem that
    has the entries as `data`. With the header `Prefer: respond-async`, and if there are many items, the answer is a
    job, which has the scores later.
    """
    begun = time.monotonic()
    key = needs(request, "score")
    gateway, value = current(request), await json_body(request)
    checked = check_score(value, gateway)
    if len(checked.items) > gateway.config.limits.sync_items or _prefers_async(request):
        return await accepted(request, value)
    engine: Engine = request.app.state.engine
    order = Order(owner=key.id, deadline=begun + checked.timeout_s, request_id=request_id(request))
    return answer(await engine.score(checked, order))


def _prefers_async(request: Request) -> bool:
    """RFC 7240: preferences in any order, over several headers, perhaps with parameters."""
    headers = [value for name, value in request.scope["headers"] if name == b"prefer"]
    preferences = b",".join(headers).lower().split(b",")
    return any(preference.partition(b";")[0].strip() == b"respond-async" for preference in preferences)
