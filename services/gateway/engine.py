"""A request's videos through decoder and model, to the value that answers it. Routes and job workers share it."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from cluster.errors import StoreUnavailableError
from cluster.serving.values import ScoreItem
from services.gateway.admission import Admission
from services.gateway.checking import BadItem, Checked
from services.gateway.frame_budget import FrameBudget
from services.gateway.metrics import Metrics
from services.gateway.problem_kinds import CALLER_QUEUE_FULL, DEADLINE_PASSED, INTERNAL, QUEUE_FULL, STORE_UNAVAILABLE
from services.gateway.problems import JsonObject, Problem
from services.gateway.requests import Item
from services.gateway.results import failed, model_of, problem_of_all, scored, usage_of
from services.gateway.shared_videos import SharedVideos
from services.gateway.state import Gateway
from services.gateway.videos import Videos
from services.media.cache import Media
from services.scoring.model import Outcome, QueueFull

WINDOW = 64
"""Items of one request that are worked on together."""
FRAME_BYTES = 4 * 2**30
"""Decoded frames that wait for a model, of all requests together."""

OnItem: TypeAlias = Callable[[JsonObject], None]
"""Told of each entry as soon as it is there, in any order."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """Whose request it is, and until when (of time.monotonic()) an answer is of use.

    A patient one waits where a queue is full; others are refused. Files are read as those of `files_of`.
    """

    owner: str
    files_of: str = ""
    deadline: float
    request_id: str
    is_patient: bool = False


class Engine:
    """Scores what was checked. One per app."""

    def __init__(self, gateway: Gateway, videos: Videos, metrics: Metrics) -> None:
        self.videos, self._metrics = videos, metrics
        self.admission = Admission(gateway.config)
        self.budget = FrameBudget(FRAME_BYTES)

    async def score(self, request: Checked, order: Order, *, on_item: OnItem | None = None) -> JsonObject:
        """The answer to POST /v1/score, JSON throughout. What `on_item` raises ends the work.

        Raises:
            Problem: nothing of it was scored; entries with each item's problem are in it.
        """
        try:
            with self.admission.hold(request.model_name, order.owner, 0 if order.is_patient else len(request.items)):
                entries = await self._entries(request, order, on_item)
        except QueueFull as full:
            raise refusal_of(full) from None
        if problem := problem_of_all(entries):
            raise problem
        return {
            "id": f"score_{secrets.token_hex(16)}",
            "object": "list",
            "model": model_of(request.model.facts),
            "partial": any("error" in entry for entry in entries),
            "data": entries,
            "usage": usage_of(entries),
        }

    async def _entries(self, request: Checked, order: Order, on_item: OnItem | None) -> list[JsonObject]:
        """In the order of the items."""
        entries: list[JsonObject] = [{}] * len(request.items)
        shared = SharedVideos(self.videos, request, order.files_of or order.owner, order.deadline)
        waiting = iter(enumerate(request.items))

        async def work() -> None:
            for index, item in waiting:
                entries[index] = await self._entry(request, index, item, order, shared)
                if on_item is not None:
                    on_item(entries[index])

        try:
            if len(entries) == 1:
                await work()
            else:
                async with asyncio.TaskGroup() as group:
                    for _ in range(min(WINDOW, len(entries))):
                        group.create_task(work())
        except* Exception as several:
            raise several.exceptions[0] from None
        return entries

    async def _entry(
        self, request: Checked, index: int, item: Item | BadItem, order: Order, shared: SharedVideos
    ) -> JsonObject:
        try:
            if isinstance(item, BadItem):
                raise item.problem
            async with self.budget.room(order.deadline) as room:
                media, decode_ms = await shared.media(item.video)
                room.hold(media.frames_FHWC.nbytes)
                outcome = await self._outcome(request, item, media, order)
            entry = scored(index, item.id, outcome, request.dimensions, media, decode_ms)
        except Exception as error:
            if order.is_patient and isinstance(error, StoreUnavailableError):
                raise  # whoever is patient tries all of it again
            problem = problem_of(error, order.request_id)
            self._metrics.item(request.model_name, problem.kind.code)
            return failed(index, item.id, problem, order.request_id, request.pointer(index, problem.kind))
        self._metrics.item(request.model_name, "scored", queue_ms=outcome.queue_ms, inference_ms=outcome.inference_ms)
        return entry

    async def _outcome(self, request: Checked, item: Item, media: Media, order: Order) -> Outcome:
        wanted = [ScoreItem(prompt=item.prompt, frames_FHWC=media.frames_FHWC, fps=media.fps)]
        while True:
            if time.monotonic() >= order.deadline:
                raise Problem(DEADLINE_PASSED)
            try:
                (outcome,) = await request.model.score(wanted, caller=order.owner, deadline=order.deadline)
                return outcome
            except QueueFull as full:
                if not order.is_patient or time.monotonic() + full.retry_after_s > order.deadline:
                    raise
                await asyncio.sleep(full.retry_after_s)


def problem_of(error: Exception, request_id: str) -> Problem:
    """What an item's caller is told of what went wrong with it."""
    match error:
        case Problem():
            return error
        case QueueFull():
            return refusal_of(error)
        case StoreUnavailableError():
            return Problem(STORE_UNAVAILABLE, retry_after_s=1)
        case _:
            _log.error("request %s: an item failed", request_id, exc_info=error)
            return Problem(INTERNAL)


def refusal_of(full: QueueFull) -> Problem:
    """429 if it is the caller's own share that is used up, else 503."""
    return Problem(CALLER_QUEUE_FULL if full.by_caller else QUEUE_FULL, retry_after_s=full.retry_after_s)
