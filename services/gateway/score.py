"""POST /v1/score."""

from __future__ import annotations

import time

from starlette.requests import Request
from starlette.responses import Response

from services.gateway.descriptions import SCORE_EXAMPLES, json_request, json_response
from services.gateway.engine import Engine, Order
from services.gateway.json_body import json_body
from services.gateway.requests import check_score
from services.gateway.responses import ScoreList
from services.gateway.routes import answer, current, needs, new_router, problems, request_id

router = new_router()


@router.post(
    "/v1/score", tags=["scores"], operation_id="score", summary="Score videos against their prompts",
    response_model=ScoreList, openapi_extra=json_request("ScoreRequest", SCORE_EXAMPLES),
    responses={200: json_response("Scores"), **problems(409, 415, 422, 429, 504)},
)  # fmt: skip
async def score(request: Request) -> Response:
    """Scores videos, in the order of the items.

    An item that fails has its problem in its place, and `partial` is true. If all fail, the answer is a problem that
    has the entries as `data`.
    """
    begun = time.monotonic()
    key = needs(request, "score")
    checked = check_score(await json_body(request), current(request))
    engine: Engine = request.app.state.engine
    order = Order(owner=key.id, deadline=begun + checked.timeout_s, request_id=request_id(request))
    return answer(await engine.score(checked, order))
