"""The models of the service."""

from __future__ import annotations

import asyncio
import logging
from typing import Annotated, Any

from fastapi import Path
from starlette.requests import Request
from starlette.responses import Response

from services.gateway.descriptions import json_response
from services.gateway.problem_kinds import MODEL_NOT_FOUND, RESTART_IN_PROGRESS
from services.gateway.problems import JsonObject, Problem
from services.gateway.responses import ModelList, ModelView
from services.gateway.results import model_of
from services.gateway.routes import answer, current, needs, new_router, problems
from services.gateway.state import Gateway
from services.scoring.model import ScoringModel
from services.serve_config import NAME

router = new_router()
_log = logging.getLogger(__name__)

Name = Annotated[str, Path(pattern=NAME, description="Of a model.", examples=["shapes"])]


class Restarts:
    """Restarts that go on, at most one of each model."""

    def __init__(self) -> None:
        self._running: dict[str, asyncio.Task[None]] = {}

    def is_running(self, name: str) -> bool:
        return name in self._running

    def begin(self, gateway: Gateway, name: str) -> None:
        """Raises Problem: the model is being restarted."""
        if name in self._running:
            raise Problem(RESTART_IN_PROGRESS)
        task = self._running[name] = asyncio.create_task(_restart(gateway, name))
        task.add_done_callback(lambda _: self._running.pop(name, None))

    async def stop(self) -> None:
        tasks = list(self._running.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@router.get(
    "/v1/models", tags=["models"], operation_id="list_models", summary="List models", response_model=ModelList,
    responses={200: json_response("Models"), **problems()},
)  # fmt: skip
async def list_models(request: Request) -> Response:
    """All models, each with what it is and whether it could score now. The default one comes first."""
    gateway = current(request)
    names = sorted(gateway.models.names, key=lambda name: name != gateway.models.default)
    data = [_view(request, name, model) for name in names if (model := gateway.models.get(name)) is not None]
    return answer({"object": "list", "data": data, "has_more": False, "next_cursor": None})


@router.get(
    "/v1/models/{name}", tags=["models"], operation_id="get_model", summary="A model", response_model=ModelView,
    responses={200: json_response("The model"), **problems(422)},
)  # fmt: skip
async def get_model(request: Request, name: Name) -> Response:
    """What a model is, and whether it could score now."""
    return answer(_view(request, name, _model(current(request), name)))


@router.post(
    "/v1/models/{name}/restart", tags=["models"], operation_id="restart_model", summary="Restart a model",
    status_code=202, response_model=ModelView,
    responses={202: json_response("It has begun"), **problems(409, 415, 422)},
)  # fmt: skip
async def restart_model(request: Request, name: Name) -> Response:
    """Replaces the model's replicas one after another, while the others answer. Needs the scope admin."""
    needs(request, "admin")
    gateway = current(request)
    model = _model(gateway, name)
    restarts: Restarts = request.app.state.restarts
    restarts.begin(gateway, name)
    return answer(_view(request, name, model), status=202, headers={"Location": f"/v1/models/{name}"})


async def _restart(gateway: Gateway, name: str) -> None:
    try:
        await gateway.models.restart(name)
    except Exception:
        _log.exception("the restart of the model %s failed", name)


def _model(gateway: Gateway, name: str) -> ScoringModel:
    if (model := gateway.models.get(name)) is None:
        raise Problem(MODEL_NOT_FOUND)
    return model


def _view(request: Request, name: str, model: ScoringModel) -> JsonObject:
    facts, restarts = model.facts, request.app.state.restarts
    state: dict[str, Any] = {
        "object": "model", "dimensions": list(facts.dimensions), "ready": model.is_ready,
        "queued": model.queued, "restarting": restarts.is_running(name),
        "default": name == current(request).models.default,
    }  # fmt: skip
    return {**model_of(facts), "name": name, **state}
