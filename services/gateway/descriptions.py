"""The API's description: what requests look like, with examples that can be sent as they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from services.gateway.examples import CLIP, COMPARED, MODEL, MODELS, OTHER_CLIP, PROMPT, SCORED
from services.gateway.requests import CompareRequest, ScoreRequest
from services.gateway.responses import Problem, schemas
from services.gateway.state import Gateway

_TEXT = """Scores videos with reward models.

Send your API key with every request: `Authorization: Bearer KEY`. Failures are problem details (RFC 9457); their `type`
leads to a page that says what to do. Every answer has an `X-Request-Id`; a request may bring its own.
"""
_TAGS = {
    "scores": "Videos in, scores out.",
    "jobs": "Requests that are answered later.",
    "files": "Videos that are uploaded once.",
    "models": "What scores.",
    "health": "For whoever runs the server.",
    "docs": "For people.",
}
_OPEN = ("/livez",)
_IDEMPOTENCY_KEY = {
    "name": "Idempotency-Key", "in": "header", "required": False,
    "description": "Repetitions of a request with the same key get the first one's answer, for a day, also after a"
    " restart of the server. The key with another body is refused.",
    "schema": {"type": "string", "pattern": "^[!-~]{1,255}$"},
}  # fmt: skip

SCORE_EXAMPLES = {
    "one": {
        "summary": "One video",
        "value": {"items": [{"prompt": PROMPT, "video": {"data": CLIP}}]},
    },
    "several": {
        "summary": "Two videos, one of their dimensions",
        "value": {
            "model": "shapes",
            "items": [
                {"id": "first", "prompt": PROMPT, "video": {"data": CLIP}},
                {"id": "second", "prompt": PROMPT, "video": {"data": OTHER_CLIP}},
            ],
            "dimensions": ["MQ"],
            "timeout_s": 30,
        },
    },
}
COMPARE_EXAMPLES = {
    "two": {
        "summary": "Two candidates",
        "value": {"prompt": PROMPT, "videos": [{"data": CLIP}, {"data": OTHER_CLIP}], "tie_margin": 0.1},
    },
}


_ANSWERS = {
    ("/v1/score", "post", "200"): SCORED,
    ("/v1/compare", "post", "200"): COMPARED,
    ("/v1/models", "get", "200"): MODELS,
    ("/v1/models/{name}", "get", "200"): MODEL,
    ("/v1/models/{name}/restart", "post", "202"): {**MODEL, "restarting": True},
    ("/livez", "get", "200"): {"status": "alive"},
    ("/readyz", "get", "200"): {"status": "ready"},
}


def json_request(schema: str, examples: Mapping[str, Any]) -> dict[str, Any]:
    """The `openapi_extra` of a route that reads its body itself."""
    content = {"schema": {"$ref": f"#/components/schemas/{schema}"}, "examples": dict(examples)}
    return {"requestBody": {"required": True, "content": {"application/json": content}}}


def json_response(description: str) -> dict[str, Any]:
    """What `responses` has besides the `response_model`."""
    return {"description": description, "content": {"application/json": {}}}


def describe(app: FastAPI, gateway: Gateway) -> dict[str, Any]:
    """OpenAPI 3.1 of the app, with the limits and models of this server in it."""
    found = get_openapi(
        title="onlinevpo", version=app.version, openapi_version="3.1.0", description=_TEXT, routes=app.routes,
        tags=[{"name": name, "description": text} for name, text in _TAGS.items()],
    )  # fmt: skip
    components = found.setdefault("components", {})
    known = components.setdefault("schemas", {})
    for name, schema in schemas(ScoreRequest, CompareRequest, Problem).items():
        known.setdefault(name, schema)
    _set_limits(known, gateway)
    components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer", "description": "An API key."}}
    found["security"] = [{"key": []}]
    for operations in found["paths"].values():
        for operation in operations.values():
            _drop_null(operation.get("parameters", ()))
        if "post" in operations:
            operations["post"].setdefault("parameters", []).append(_IDEMPOTENCY_KEY)
    for (path, method, status), example in _ANSWERS.items():  # here, because null in one does not survive the above
        found["paths"][path][method]["responses"][status]["content"]["application/json"]["example"] = example
    for path in _OPEN:
        for operation in found["paths"][path].values():
            operation["security"] = []
    return found


def _drop_null(parameters: Sequence[dict[str, Any]]) -> None:
    """A parameter may be absent, but never null."""
    for parameter in parameters:
        schema = parameter["schema"]
        options = [option for option in schema.get("anyOf", ()) if option != {"type": "null"}]
        if len(options) == 1:
            del schema["anyOf"]
            schema |= options[0]


def _set_limits(known: dict[str, Any], gateway: Gateway) -> None:
    limits, models = gateway.config.limits, gateway.models
    scoring = [model for name in models.names if (model := models.get(name)) is not None]
    dimensions = {name for model in scoring for name in model.facts.dimensions}
    for name, place, most in (
        ("ScoreRequest", "items", limits.items), ("CompareRequest", "videos", limits.sync_items)
    ):  # fmt: skip
        properties = known[name]["properties"]
        properties[place]["maxItems"] = most
        properties["timeout_s"]["maximum"] = limits.max_timeout_s
        properties["model"] |= {"enum": sorted(models.names)}
        if dimensions:
            properties["dimensions"]["items"] = {"type": "string", "enum": sorted(dimensions)}
    for name in ("Item", "CompareRequest"):
        known[name]["properties"]["prompt"]["maxLength"] = limits.prompt_characters
