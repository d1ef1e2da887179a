"""POST /v1/compare."""

from __future__ import annotations

import time

from starlette.requests import Request
from starlette.responses import Response

from services.gateway import comparison
from services.gateway.checking import check_compare
from services.gateway.descriptions import COMPARE_EXAMPLES, json_request, json_response
from services.gateway.engine import Order
from services.gateway.json_body import json_body
from services.gateway.responses import Comparison
from services.gateway.routes import answer, current, needs, new_router, problems, request_id

router = new_router()


@router.post(
    "/v1/compare", tags=["scores"], operation_id="compare", summary="Rank videos made from one prompt",
    response_model=Comparison, openapi_extra=json_request("CompareRequest", COMPARE_EXAMPLES),
    responses={200: json_response("The ranking"), **problems(409, 415, 422, 429, 504)},
)  # fmt: skip
async def compare(request: Request) -> Response:
    """Ranks candidates by reward. They are scored as one batch of their own, so that no one else's load changes it.

    A candidate that fails has its problem in its place in `data`, and is not ranked. Two must be left.
    """
    begun = time.monotonic()
    key = needs(request, "score")
    checked = check_compare(await json_body(request), current(request))
    order = Order(owner=key.id, deadline=begun + checked.timeout_s, request_id=request_id(request))
    return answer(await comparison.compare(request.app.state.engine, checked, order))
