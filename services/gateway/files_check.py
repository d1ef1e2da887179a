"""A look at an uploaded video before it is kept: what it is, or why it is refused."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping

from pydantic import JsonValue

from policies.errors import StallError
from services.gateway.engine import Engine
from services.gateway.problem_kinds import VIDEO
from services.gateway.problems import JsonObject, Problem
from services.gateway.state import Gateway
from services.media.refusal import GuardBusy, GuardUnavailable, MediaRefused

CHECK_S = 10.0
LARGEST = 16 * 2**20
"""Bytes; a decoder is given the whole file, and an upload shall not cost the server its own size in memory."""
_FACTS = ("container", "codec", "frames", "height", "width", "fps")


class UploadCheck:
    """Of one app. As many uploads are looked at together as there are decoders; scores wait for no more than those.

    A file for which there is no time, or which is too large, is kept without facts, and looked at when it is scored.
    """

    def __init__(self, gateway: Gateway, engine: Engine) -> None:
        self._index, self._engine = gateway.store.files, engine
        self._turns = asyncio.Semaphore(gateway.config.decoders)

    async def facts(self, sha256: str, size: int) -> Mapping[str, JsonValue]:
        """What is known of the file in the folder.

        Raises:
            Problem: it is no video that this server takes.
        """
        known = await self._index.get(sha256)
        if known is not None and view_of(known.facts):
            return known.facts
        if size > LARGEST:
            return {}
        deadline = time.monotonic() + CHECK_S
        try:
            async with asyncio.timeout(CHECK_S), self._turns, self._engine.budget.room(deadline):
                media = await self._engine.videos.first_look(sha256, deadline=deadline)
        except MediaRefused as refused:
            raise Problem(VIDEO[refused.code]) from None
        except (GuardBusy, GuardUnavailable, StallError, TimeoutError, Problem):
            return {}
        return {name: getattr(media.facts, name) for name in _FACTS}


def view_of(facts: Mapping[str, JsonValue]) -> JsonObject | None:
    """Facts as callers see them; None where they are not known."""
    frames, fps = facts.get("frames"), facts.get("fps")
    if not isinstance(frames, int) or not isinstance(fps, int | float):
        return None
    return {**{name: facts[name] for name in _FACTS}, "seconds": frames / fps}
