"""Pages of a listing, newest first. A cursor is a place between two entries, so what is added later moves nothing."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from cluster.store.records import Records
from policies.errors import InputError

T = TypeVar("T")

LARGEST_PAGE = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Page(Generic[T]):
    """`next_cursor` is None on the last page."""

    items: Sequence[T]
    next_cursor: str | None


async def page_of(
    records: Records, index: str, parse: Callable[[str, bytes], T], key: Callable[[str], str], *, cursor: str | None,
    limit: int,
) -> Page[T]:  # fmt: skip
    """The next `limit` entries of an index. `key` gives a member's record, `parse` reads it."""
    if not 1 <= limit <= LARGEST_PAGE:
        raise InputError(f"a page has 1 to {LARGEST_PAGE} entries, not {limit}")
    members = await records.scan(index, after=decode_cursor(cursor), limit=limit + 1, newest_first=True)
    shown = members[:limit]
    values = await records.read([key(member) for member in shown]) if shown else []
    items = [parse(key(member), value) for member, value in zip(shown, values, strict=True) if value is not None]
    return Page(items=items, next_cursor=encode_cursor(shown[-1]) if len(members) > limit else None)


def encode_cursor(member: str) -> str:
    """A member of an index, opaque."""
    return base64.urlsafe_b64encode(member.encode()).decode().rstrip("=")


def decode_cursor(cursor: str | None) -> str:
    """The member, or nothing for the start. Raises InputError for text that is no cursor."""
    if cursor is None:
        return ""
    try:
        member = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        member = ""
    if not member or "\0" in member:
        raise InputError("this cursor was not given out by this service; start again without one")
    return member
