"""Removing what is over, a few at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from cluster.store.records import Records

AT_ONCE = 64


async def sweep(records: Records, index: str, until: str, forget: Callable[[str], Awaitable[None]]) -> int:
    """Calls `forget` for every member of an index before `until`, which has to leave the index; how many there were."""
    count = 0
    while members := await records.scan(index, until=until, limit=AT_ONCE):
        await asyncio.gather(*map(forget, members))
        count += len(members)
    return count
