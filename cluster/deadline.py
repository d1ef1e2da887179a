"""Every wait has an end and a name."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from policies.errors import StallError

T = TypeVar("T")


async def within(awaitable: Awaitable[T], *, seconds: float, waiting_for: str) -> T:
    """Awaits, for a limited time.

    Raises:
        StallError: the time is over; the message names what was waited for. A TimeoutError of the awaitable's own
            passes unchanged.
    """
    limit = asyncio.timeout(seconds)
    try:
        async with limit:
            return await awaitable
    except TimeoutError as error:
        if not limit.expired():
            raise
        raise StallError(f"no answer from {waiting_for} within {seconds:g} s") from error


def is_cancelled_here() -> bool:
    """In the handling of a CancelledError: whether somebody cancelled this task, rather than what it waited for."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
