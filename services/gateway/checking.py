"""Requests against what this server has and allows. What is wrong with one item stays with that item."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter, ValidationError

from services.gateway.problem_kinds import INPUT_REFUSED, INVALID, MODEL_NOT_FOUND, NOT_OFFERED, TOO_MANY_ITEMS, Kind
from services.gateway.problems import Problem
from services.gateway.requests import ID, Envelope, Item, LooseCompareRequest, LooseScoreRequest, Video
from services.gateway.state import Gateway
from services.gateway.validation import errors_of
from services.scoring.model import ScoringModel

_LATER = frozenset({"url", "webhook", "webhook_url", "webhook_events_filter", "callback_url", "input_file_id"})
"""Fields that other services have for what comes later here."""

_SCORE, _COMPARE = TypeAdapter(LooseScoreRequest), TypeAdapter(LooseCompareRequest)
_ITEM, _VIDEO = TypeAdapter(Item), TypeAdapter(Video)


@dataclass(frozen=True, slots=True)
class BadItem:
    """An item that is wrong, while the others need not be."""

    problem: Problem
    id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """A request that can be worked on."""

    model_name: str
    model: ScoringModel
    items: list[Item | BadItem]
    dimensions: tuple[str, ...]
    timeout_s: float
    tie_margin: float = 0.0
    place: str = "items"
    """The field that the items came in."""

    def pointer(self, index: int, kind: Kind) -> str:
        """To what a problem of an item is about: its video, or all of it where the prompt may be to blame."""
        if self.place == "videos":
            return f"/videos/{index}"
        return f"/items/{index}" if kind is INPUT_REFUSED else f"/items/{index}/video"


def check_score(value: Any, gateway: Gateway) -> Checked:
    """A body of POST /v1/score. Raises Problem for what is wrong with it as a whole."""
    body = _validated(_SCORE, value)
    _check_count(len(body.items), gateway.config.limits.items, "items")
    most = gateway.config.limits.prompt_characters
    items = [_item(item, index, most) for index, item in enumerate(body.items)]
    return _checked(body, items, gateway)


def check_compare(value: Any, gateway: Gateway) -> Checked:
    """A body of POST /v1/compare. Raises Problem for what is wrong with it as a whole."""
    body = _validated(_COMPARE, value)
    _check_count(len(body.videos), gateway.config.limits.sync_items, "videos")
    if len(body.prompt) > gateway.config.limits.prompt_characters:
        raise _too_long("/prompt", gateway.config.limits.prompt_characters)
    items = [_candidate(video, index, body.prompt) for index, video in enumerate(body.videos)]
    return _checked(body, items, gateway, place="videos", tie_margin=body.tie_margin)


def _checked(body: Envelope, items: list[Item | BadItem], gateway: Gateway, **more: Any) -> Checked:
    name = body.model or gateway.models.default
    model = gateway.models.get(name)
    if model is None:
        raise Problem(MODEL_NOT_FOUND, errors=[{"pointer": "/model", "detail": MODEL_NOT_FOUND.detail}])
    limits = gateway.config.limits
    if body.timeout_s > limits.max_timeout_s:
        raise _invalid("/timeout_s", f"This must be at most {limits.max_timeout_s:g}.")
    return Checked(
        model_name=name, model=model, items=items, dimensions=_dimensions(body.dimensions, model),
        timeout_s=body.timeout_s or limits.timeout_s, **more,
    )  # fmt: skip


def _dimensions(named: list[str], model: ScoringModel) -> tuple[str, ...]:
    known = model.facts.dimensions
    for index, name in enumerate(named):
        if name not in known:
            raise _invalid(f"/dimensions/{index}", f"The model's dimensions are {', '.join(known)}.")
    return tuple(name for name in known if name in named) if named else known


def _item(value: Any, index: int, most_characters: int) -> Item | BadItem:
    try:
        item = _ITEM.validate_python(value)
    except ValidationError as error:
        return BadItem(_problem(error, ("items", index)), _id_of(value))
    if len(item.prompt) > most_characters:
        return BadItem(_too_long(f"/items/{index}/prompt", most_characters), item.id)
    return item


def _id_of(value: Any) -> str:
    """Of an item that is wrong: its id may still be right."""
    label = value.get("id") if isinstance(value, dict) else None
    return label if isinstance(label, str) and re.fullmatch(ID, label) else ""


def _candidate(value: Any, index: int, prompt: str) -> Item | BadItem:
    try:
        return Item.model_construct(prompt=prompt, video=_VIDEO.validate_python(value), id="")
    except ValidationError as error:
        return BadItem(_problem(error, ("videos", index)), "")


def _validated(adapter: TypeAdapter[Any], value: Any) -> Any:
    try:
        return adapter.validate_python(value)
    except ValidationError as error:
        problem = _problem(error)
    raise problem


def _problem(error: ValidationError, prefix: tuple[str | int, ...] = ()) -> Problem:
    """Never with the error as its cause, which has all that was sent in it."""
    found = [
        {**entry, "loc": (*prefix, *entry["loc"])}
        for entry in error.errors(include_url=False, include_input=False, include_context=True)
    ]
    later = [entry for entry in found if _comes_later(entry)]
    if later:
        places = [{"type": "not_offered", "loc": entry["loc"]} for entry in later]
        return Problem(NOT_OFFERED, errors=errors_of(places))
    return Problem(INVALID, errors=errors_of(found))


def _comes_later(entry: Mapping[str, Any]) -> bool:
    is_named = entry["type"] == "extra_forbidden" and entry["loc"][-1] in _LATER
    return is_named or bool(entry["type"] == "not_offered")


def _check_count(count: int, most: int, place: str) -> None:
    if count > most:
        detail = f"The request has {count} {place}; this server takes {most} at most."
        raise Problem(TOO_MANY_ITEMS, detail, errors=[{"pointer": f"/{place}", "detail": detail}])


def _too_long(pointer: str, most: int) -> Problem:
    return _invalid(pointer, f"This string may have {most} characters at most.")


def _invalid(pointer: str, detail: str, kind: Kind = INVALID) -> Problem:
    return Problem(kind, errors=[{"pointer": pointer, "detail": detail}])
