"""Lists in pages: opaque cursors, newest first."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Protocol, TypeVar

from fastapi import Query

from cluster.store.pages import Page
from policies.errors import InputError
from services.gateway.problem_kinds import INVALID
from services.gateway.problems import JsonObject, Problem

T = TypeVar("T")

LARGEST_PAGE = 200

Cursor = Annotated[
    str | None, Query(max_length=512, description="`next_cursor` of the page before; without it, the first page.")
]
Limit = Annotated[int, Query(ge=1, le=LARGEST_PAGE, description="Entries of a page.")]

_NOT_OURS = [{"parameter": "cursor", "detail": "This cursor was not given out by this server."}]


class PageOf(Protocol[T]):
    """How the store gives a page of an owner's things."""

    async def __call__(self, owner: str, *, cursor: str | None, limit: int) -> Page[T]: ...


async def listing(
    page_of: PageOf[T], owner: str, entry: Callable[[T], JsonObject], *, cursor: str | None, limit: int
) -> JsonObject:
    """A page of what an owner has. Raises Problem: the cursor is not one of ours."""
    try:
        page = await page_of(owner, cursor=cursor, limit=limit)
    except InputError as error:
        raise Problem(INVALID, errors=_NOT_OURS) from error
    return {
        "object": "list",
        "data": [entry(item) for item in page.items],
        "has_more": page.next_cursor is not None,
        "next_cursor": page.next_cursor,
    }
