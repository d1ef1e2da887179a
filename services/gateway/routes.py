"""How the routes of this package are written.

    router = new_router()

    @router.get("/v1/things/{name}", responses=problems(404), ...)
    async def thing(request: Request) -> Response:
        key = needs(request, "score")
        gateway = current(request)
        raise Problem(NOT_FOUND)
        return answer({...})

A route takes the request and gives a response: nothing validates an answer twice. Who has no valid key never gets here
(`auth.py`), bodies are capped and timed (`body.py`), and a `Problem` that is raised becomes the answer.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, cast

import orjson
from fastapi import APIRouter
from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Send
from starlette.types import Scope as ASGIScope

from cluster.store.keys import ApiKey, Scope
from services.gateway.problem_kinds import FORBIDDEN
from services.gateway.problems import MEDIA_TYPE, JsonObject, Problem
from services.gateway.state import Gateway


class PlainRoute(APIRoute):
    """Calls its endpoint with the request and nothing else: resolving dependencies would double the time of a request.

    Endpoints with further parameters get FastAPI's handling. Exceptions become answers one layer further out.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self._is_plain:
            self.app = _calling(self.endpoint)

    @property
    def _is_plain(self) -> bool:
        dependant = self.dependant
        params = (dependant.path_params, dependant.query_params, dependant.header_params, dependant.body_params)
        return not any((*params, dependant.dependencies)) and dependant.request_param_name == "request"


def _calling(endpoint: Callable[[Request], Awaitable[Response]]) -> ASGIApp:
    async def app(scope: ASGIScope, receive: Receive, send: Send) -> None:
        response = await endpoint(Request(scope, receive, send))
        await response(scope, receive, send)

    return app


def new_router() -> APIRouter:
    return APIRouter(route_class=PlainRoute)


def current(request: Request) -> Gateway:
    """The parts of the service."""
    return cast(Gateway, request.app.state.gateway)


def caller(request: Request) -> ApiKey:
    """Whose request it is."""
    return cast(ApiKey, request.scope["state"]["key"])


def needs(request: Request, scope: Scope) -> ApiKey:
    """Whose request it is, if that key may do this.

    Raises:
        Problem: it may not.
    """
    key = caller(request)
    if scope not in key.scopes:
        raise Problem(FORBIDDEN, f"This operation needs an API key with the scope {scope}.")
    return key


def request_id(request: Request) -> str:
    """The id by which the log and the caller know the request."""
    return cast(str, request.scope["state"]["request_id"])


def operation_id(request: Request) -> str | None:
    """With an Idempotency-Key: the id that repetitions of this request share, also after a crash."""
    return cast("str | None", request.scope["state"].get("operation_id"))


def answer(value: JsonObject, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A JSON answer."""
    return Response(orjson.dumps(value), status_code=status, headers=headers, media_type="application/json")


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route: these statuses, those that every route has, and 500, as problem objects."""
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    every = {400, 401, 403, 404, 405, 408, 413, 500, 503, *statuses}
    return {
        status: {"description": _DESCRIPTIONS.get(status, "Problem"), "content": content} for status in sorted(every)
    }


_DESCRIPTIONS = {
    400: "The request is not understood",
    401: "No valid API key",
    403: "The API key lacks a scope",
    404: "No such thing",
    405: "The address does not know this method",
    408: "The body came too slowly",
    409: "The request conflicts with another one",
    413: "Too large",
    415: "Wrong content type",
    422: "Something in the request is not valid",
    429: "Too much of this caller waits already",
    500: "The server failed",
    503: "The server cannot do this now",
    504: "The deadline passed",
}
