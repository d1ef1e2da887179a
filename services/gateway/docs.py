"""The API's description, and pages for people, from files of this package only."""

from __future__ import annotations

import html
import pathlib
from typing import Annotated, Any

import orjson
from fastapi import Path
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from services.gateway.problem_kinds import KINDS, NOT_FOUND, Kind
from services.gateway.problems import Problem
from services.gateway.routes import new_router, problems

PAGES = ("/docs", "/openapi.json", "/problems/")
"""What browsers open, as the beginnings of paths."""

_SWAGGER_UI = pathlib.Path(__file__).parents[1] / "vendor" / "swagger_ui"
_CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self';"
    " frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)
_SHELL = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>onlinevpo API</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="/docs/swagger-ui.css">
</head>
<body>
<div id="swagger-ui"></div>
<script src="/docs/swagger-ui-bundle.js"></script>
<script src="/docs/start.js"></script>
</body>
</html>
"""
_START = """SwaggerUIBundle({
  url: location.origin + "/openapi.json",  // an address with a password in it cannot be fetched from
  dom_id: "#swagger-ui",
  deepLinking: true,
  validatorUrl: null,
  presets: [SwaggerUIBundle.presets.apis],
  layout: "BaseLayout",
});
"""
_PROBLEM_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<link rel="icon" href="data:,">
</head>
<body>
<h1>{title}</h1>
<p>Code <code>{code}</code>, status {status}, {retryable}.</p>
<p>{detail}</p>
<p>{remedy}</p>
</body>
</html>
"""

router = new_router()

ProblemCode = Annotated[str, Path(description="A problem's `code`.", examples=["video_damaged"])]


@router.get("/openapi.json", include_in_schema=False)
async def openapi(request: Request) -> Response:
    """OpenAPI 3.1."""
    state: Any = request.app.state
    if not hasattr(state, "openapi"):
        state.openapi = orjson.dumps(state.describe())
    return Response(state.openapi, media_type="application/json")


@router.get("/docs", include_in_schema=False)
async def page(request: Request) -> Response:
    """Swagger UI. With no network it works as well as with one."""
    return _static(_SHELL, "text/html")


@router.get("/docs/start.js", include_in_schema=False)
async def start(request: Request) -> Response:
    return _static(_START, "text/javascript")


@router.get("/docs/swagger-ui-bundle.js", include_in_schema=False)
async def bundle(request: Request) -> Response:
    return _static((_SWAGGER_UI / "swagger-ui-bundle.js").read_bytes(), "text/javascript")


@router.get("/docs/swagger-ui.css", include_in_schema=False)
async def style(request: Request) -> Response:
    return _static((_SWAGGER_UI / "swagger-ui.css").read_bytes(), "text/css")


_PAGE = {"description": "The page", "content": {"text/html": {"schema": {"type": "string"}}}}


@router.get(
    "/problems/{code}", tags=["docs"], operation_id="problem_page", summary="What a problem means",
    response_class=HTMLResponse, responses={200: _PAGE, **problems(422)},
)  # fmt: skip
async def problem_page(request: Request, code: ProblemCode) -> Response:
    """The page that a problem's `type` leads to."""
    if (kind := KINDS.get(code)) is None:
        raise Problem(NOT_FOUND)
    return _static(_problem_page(kind), "text/html")


def _problem_page(kind: Kind) -> str:
    texts = {name: html.escape(getattr(kind, name)) for name in ("title", "code", "detail", "remedy")}
    retryable = "worth trying again" if kind.retryable else "the same again meets the same"
    return _PROBLEM_PAGE.format(**texts, status=kind.status, retryable=retryable)


def _static(content: str | bytes, media_type: str) -> Response:
    return Response(content, media_type=media_type, headers={"Content-Security-Policy": _CSP})
