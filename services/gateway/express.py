"""The addresses that get thousands of requests a second, without the framework's way to their routes."""

from __future__ import annotations

from collections.abc import Iterable

from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from cluster.errors import StoreUnavailableError
from services.gateway.problem_kinds import STORE_UNAVAILABLE
from services.gateway.problems import Problem


class Express:
    """The innermost layer. What it does not know takes the usual way, which would give the same answers.

    Args:
        routes: those without parameters in their paths, whose endpoints answer at once.
    """

    def __init__(self, app: ASGIApp, *, routes: Iterable[BaseRoute]) -> None:
        self._app = app
        self._routes = {(method, route.path): route for route in routes if isinstance(route, Route)
                        for method in route.methods or ()}  # fmt: skip

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        route = self._routes.get((scope["method"], scope["path"])) if scope["type"] == "http" else None
        if route is None:
            return await self._app(scope, receive, send)
        scope["route"], scope["endpoint"], scope["path_params"] = route, route.endpoint, {}
        try:
            await route.app(scope, receive, send)
        except (Problem, StoreUnavailableError) as error:  # no endpoint raises them once its answer has begun
            problem = error if isinstance(error, Problem) else Problem(STORE_UNAVAILABLE, retry_after_s=1)
            await problem.response(scope["state"]["request_id"])(scope, receive, send)
