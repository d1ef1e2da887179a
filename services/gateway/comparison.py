"""Candidates of one prompt, ranked. They are one batch of their own, so that their numbers do not depend on load."""

from __future__ import annotations

import asyncio
import math
import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from cluster.serving.values import ScoreItem
from services.gateway.checking import BadItem, Checked
from services.gateway.engine import Engine, Order, problem_of, refusal_of
from services.gateway.problem_kinds import COMPARISON_TOO_LARGE, TOO_FEW_CANDIDATES
from services.gateway.problems import JsonObject, Problem
from services.gateway.requests import Item
from services.gateway.results import failed, model_of, problem_of_all, scored, usage_of
from services.gateway.shared_videos import SharedVideos
from services.media.cache import Media
from services.scoring.model import QueueFull

LARGEST_BYTES = 2 * 2**30
"""Decoded frames of one comparison, which are all held together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ready:
    """A candidate that the model can have."""

    index: int
    item: Item
    media: Media
    decode_ms: float


async def compare(engine: Engine, request: Checked, order: Order) -> JsonObject:
    """The answer to POST /v1/compare, JSON throughout.

    Raises:
        Problem: fewer than two candidates have scores.
    """
    try:
        with engine.admission.hold(request.model_name, order.owner, len(request.items)):
            entries = await _entries(engine, request, order)
    except QueueFull as full:
        raise refusal_of(full) from None
    if problem := problem_of_all(entries):
        raise problem
    ranking = ranked(entries, request.tie_margin)
    if len(ranking) < 2:
        raise Problem(TOO_FEW_CANDIDATES, more={"data": entries})
    return {
        "id": f"comparison_{secrets.token_hex(16)}",
        "object": "comparison",
        "model": model_of(request.model.facts),
        "partial": len(ranking) < len(entries),
        "tie": ranking[1]["margin_to_best"] <= request.tie_margin,
        "tie_margin": request.tie_margin,
        "ranking": ranking,
        "data": entries,
        "usage": usage_of(entries),
    }


def ranked(entries: Sequence[JsonObject], tie_margin: float) -> list[JsonObject]:
    """Candidates with scores, best first. Neighbours that differ by no more than the margin share a rank."""
    order = sorted((entry for entry in entries if "reward" in entry), key=lambda entry: -entry["reward"])
    ranking: list[JsonObject] = []
    for place, entry in enumerate(order):
        margins = [order[place - 1]["reward"] - entry["reward"]] if place else []
        is_tied_up = bool(margins) and margins[0] <= tie_margin
        if ranking:
            ranking[-1] |= {"margin_to_next": margins[0], "tie": ranking[-1]["tie"] or is_tied_up}
        ranking.append(
            {
                "rank": ranking[-1]["rank"] if is_tied_up else place + 1,
                "index": entry["index"],
                "reward": entry["reward"],
                "margin_to_best": order[0]["reward"] - entry["reward"],
                "tie": is_tied_up,
            }
        )
    return ranking


async def _entries(engine: Engine, request: Checked, order: Order) -> list[JsonObject]:
    entries: dict[int, JsonObject] = {}

    def fail(index: int, error: Exception) -> None:
        problem = problem_of(error, order.request_id)
        entries[index] = failed(index, "", problem, order.request_id, request.pointer(index, problem.kind))

    async with engine.budget.room(order.deadline) as room:
        room.hold(LARGEST_BYTES)
        found = await _decoded(engine, request, order)
        ready = [candidate for candidate in found if isinstance(candidate, _Ready)]
        size = sum(candidate.media.frames_FHWC.nbytes for candidate in ready)
        if size > LARGEST_BYTES:
            raise Problem(COMPARISON_TOO_LARGE)
        room.hold(size)
        for index, candidate in enumerate(found):
            if isinstance(candidate, Exception):
                fail(index, candidate)
        wanted = [
            ScoreItem(prompt=ready_.item.prompt, frames_FHWC=ready_.media.frames_FHWC, fps=ready_.media.fps)
            for ready_ in ready
        ]
        outcomes = await request.model.score(wanted, caller=order.owner, deadline=order.deadline, alone=True)
    for ready_, outcome in zip(ready, outcomes, strict=True):
        try:
            entries[ready_.index] = scored(
                ready_.index, "", outcome, request.dimensions, ready_.media, ready_.decode_ms
            )
        except Problem as problem:
            fail(ready_.index, problem)
    assert all(math.isfinite(entry.get("reward", 0.0)) for entry in entries.values())
    return [entries[index] for index in range(len(request.items))]


async def _decoded(engine: Engine, request: Checked, order: Order) -> list[_Ready | Exception]:
    """What became of each candidate, in their order."""
    shared = SharedVideos(engine.videos, request, order.owner, order.deadline)

    async def one(index: int, item: Item | BadItem) -> _Ready | Exception:
        try:
            if isinstance(item, BadItem):
                return item.problem
            media, decode_ms = await shared.media(item.video)
            return _Ready(index=index, item=item, media=media, decode_ms=decode_ms)
        except Exception as error:
            return error

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one(index, item)) for index, item in enumerate(request.items)]
    return [task.result() for task in tasks]
