"""The HTTP API as one application."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match, Route

from cluster.errors import StoreUnavailableError
from services.gateway import compare, docs, files, health, jobs, later, models, score
from services.gateway.auth import Auth
from services.gateway.background import GatewayTasks
from services.gateway.body import BodyLimit
from services.gateway.descriptions import describe
from services.gateway.engine import Engine
from services.gateway.express import Express
from services.gateway.files_check import UploadCheck
from services.gateway.hosts import Hosts
from services.gateway.idempotency import Idempotent
from services.gateway.metrics import Metrics
from services.gateway.observe import Observe
from services.gateway.problem_kinds import BAD_REQUEST, INVALID, METHOD_NOT_ALLOWED, NOT_FOUND, STORE_UNAVAILABLE
from services.gateway.problems import Problem
from services.gateway.routes import request_id
from services.gateway.score_work import ScoreWork
from services.gateway.state import Gateway
from services.gateway.uris import UriRoots
from services.gateway.validation import errors_of
from services.gateway.videos import Videos

UPLOADS = "/v1/files"
_AROUND_A_FILE = 64 * 1024  # bytes of a multipart body that are not the file


def create_app(gateway: Gateway, *, access_log: bool = False) -> FastAPI:
    """The service as an ASGI application. `access_log`: one line of JSON per request on standard error."""
    metrics = Metrics(gateway.models)
    config = gateway.config
    app = FastAPI(
        title="onlinevpo", version="1", openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False,
        lifespan=_lifespan, telemetry={"tracing": False, "metrics": False, "logs": False},
        # outermost first
        middleware=[
            Middleware(Observe, metrics=metrics, access_log=access_log),
            Middleware(Hosts, listening=config.host, allowed=config.allowed_hosts),
            Middleware(Auth, store=gateway.store, pages=docs.PAGES),
            Middleware(
                BodyLimit, max_bytes=config.limits.request_bytes, uploads=UPLOADS,
                max_file_bytes=config.media.max_bytes + _AROUND_A_FILE,
            ),
            Middleware(
                Idempotent, store=gateway.store.idempotency, largest_body=config.limits.request_bytes, uploads=UPLOADS
            ),
            Middleware(Express, routes=score.router.routes),
        ],
        exception_handlers={
            Problem: _on_problem, HTTPException: _on_http_exception, RequestValidationError: _on_invalid_parameters,
            StoreUnavailableError: _on_store_unavailable,
        },
    )  # fmt: skip
    uris = UriRoots(config.uri_roots)
    app.state.gateway, app.state.metrics, app.state.uris = gateway, metrics, uris
    app.state.engine = Engine(gateway, Videos(gateway, uris, metrics), metrics)
    app.state.upload_check = UploadCheck(gateway, app.state.engine)
    app.state.restarts = models.Restarts()
    app.state.describe = partial(describe, app, gateway)
    for module in (score, compare, models, files, jobs, health, docs, later):
        # not include_router: a route that is the app's own is found faster, and whoever walks app.routes sees it
        app.router.routes += module.router.routes
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    gateway: Gateway = app.state.gateway
    tasks = GatewayTasks(gateway, ScoreWork(gateway, app.state.engine))
    app.state.tasks = tasks
    await tasks.start()
    yield
    await tasks.stop(gateway.config.drain_s)
    await app.state.restarts.stop()
    app.state.uris.close()


async def _on_problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)
    return error.response(request_id(request))


async def _on_store_unavailable(request: Request, error: Exception) -> Response:
    return Problem(STORE_UNAVAILABLE, retry_after_s=1).response(request_id(request))


async def _on_http_exception(request: Request, error: Exception) -> Response:
    """What the framework refuses by itself."""
    assert isinstance(error, HTTPException)
    if error.status_code == 405:
        return Problem(METHOD_NOT_ALLOWED, headers={"Allow": _methods(request)}).response(request_id(request))
    return Problem(NOT_FOUND if error.status_code == 404 else BAD_REQUEST).response(request_id(request))


def _methods(request: Request) -> str:
    """What the address knows, by all of its routes: the framework names only those of the first."""
    routes = [route for route in request.app.routes if isinstance(route, Route)]
    found = {
        method
        for route in routes
        if route.matches(request.scope)[0] is not Match.NONE
        for method in route.methods or ()
    }
    return ", ".join(sorted(found))


async def _on_invalid_parameters(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return Problem(INVALID, errors=errors_of(error.errors(), whole="request")).response(request_id(request))
