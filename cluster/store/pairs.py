"""Pairs that a run learned from, found by prompt, by margin, and by whether the dimensions disagree.

runs/<id>/pairs/<attempt>/<group>   the pair
runs/<id>/pairs, .../of/<prompt>, .../conflict, .../margin   its entries in four indexes
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from cluster.store.codec import Codec
from cluster.store.pages import LARGEST_PAGE, Page, decode_cursor, encode_cursor
from cluster.store.records import Change, Entry, Records
from cluster.store.run_items import Pair
from cluster.store.run_record import Run, load, run_key
from policies.errors import InputError

Order: TypeAlias = Literal["newest", "largest_margin", "smallest_margin"]

LOOKED_AT = 256  # entries at a time
MOST_LOOKED_AT = 4096  # entries for one page; it may then be short, and the next one goes on

_CODEC = Codec(Pair)


@dataclass(frozen=True, slots=True, kw_only=True)
class PairFilter:
    """Which pairs. `conflict` is a dimension that prefers the rejected one, or "any"; bounds include their value."""

    prompt_id: str | None = None
    min_margin: float | None = None
    max_margin: float | None = None
    conflict: str | None = None
    first_update: int = 0
    last_update: int | None = None

    def takes(self, pair: Pair) -> bool:
        return (
            self.prompt_id in (None, pair.prompt_id)
            and (self.min_margin is None or pair.margin >= self.min_margin)
            and (self.max_margin is None or pair.margin <= self.max_margin)
            and self._has_conflict(pair)
            and self.first_update <= pair.update
            and (self.last_update is None or pair.update <= self.last_update)
        )

    def _has_conflict(self, pair: Pair) -> bool:
        if self.conflict in (None, "any"):
            return self.conflict is None or bool(pair.conflicts)
        return self.conflict in pair.conflicts


class Pairs:
    """Pages of pairs; those that a resumed run has drawn again are left out."""

    def __init__(self, records: Records) -> None:
        self._records = records

    async def get(self, run_id: str, group_id: str) -> Pair | None:
        """The pair of a group that counts."""
        (value,) = await self._records.read([run_key(run_id)])
        if (stored := load(run_id, value)) is None:
            return None
        attempts = range(stored.run.attempt, 0, -1)
        keys = [_pair_key(run_id, attempt, group_id) for attempt in attempts]
        for attempt, key, data in zip(attempts, keys, await self._records.read(keys) if keys else [], strict=True):
            if data is not None and not stored.run.is_void(attempt, (pair := _CODEC.load(key, data)).update):
                return pair
        return None

    async def page(
        self,
        run_id: str,
        which: PairFilter | None = None,
        *,
        order: Order = "newest",
        cursor: str | None = None,
        limit: int = 50,
    ) -> Page[Pair]:
        """The next pairs in that order. A page with fewer than `limit` pairs may still have a `next_cursor`."""
        which = which or PairFilter()
        if not 1 <= limit <= LARGEST_PAGE:
            raise InputError(f"a page has 1 to {LARGEST_PAGE} entries, not {limit}")
        (value,) = await self._records.read([run_key(run_id)])
        if (stored := load(run_id, value)) is None:
            return Page(items=[], next_cursor=None)
        way = _way(run_id, which, order)
        place, found, looked_at = decode_cursor(cursor) or way.start, list[tuple[str, Pair]](), 0
        while looked_at < MOST_LOOKED_AT:
            members = await self._records.scan(way.index, after=place, limit=LOOKED_AT, newest_first=way.is_down)
            inside = [member for member in members if not way.is_past(member)]
            found += [each for each in await self._load(stored.run, inside) if which.takes(each[1])]
            if len(found) > limit:
                return Page(items=[pair for _, pair in found[:limit]], next_cursor=encode_cursor(found[limit - 1][0]))
            if len(inside) < LOOKED_AT:
                return Page(items=[pair for _, pair in found], next_cursor=None)
            place, looked_at = members[-1], looked_at + len(members)
        return Page(items=[pair for _, pair in found], next_cursor=encode_cursor(place))

    async def _load(self, run: Run, members: Sequence[str]) -> list[tuple[str, Pair]]:
        """The pairs of entries, without those that are void."""
        valid = [(member, *_parts(member)) for member in members]
        valid = [each for each in valid if not run.is_void(each[2], each[1])]
        keys = [_pair_key(run.id, attempt, group_id) for _, _, attempt, group_id in valid]
        values = await self._records.read(keys) if keys else []
        return [
            (each[0], _CODEC.load(key, data))
            for each, key, data in zip(valid, keys, values, strict=True)
            if data is not None
        ]


async def drop_pairs(records: Records, run: Run, last: int) -> None:
    """Removes the pairs of the attempts up to `last`."""
    place = ""
    while members := await records.scan(_index(run.id), after=place, limit=LOOKED_AT):
        parts = [(member, *_parts(member)) for member in members]
        old = [(member, attempt, group_id) for member, _, attempt, group_id in parts if attempt <= last]
        keys = [_pair_key(run.id, attempt, group_id) for _, attempt, group_id in old]
        values = await records.read(keys) if keys else []
        entries = [Entry(_index(run.id), member) for member, _, _ in old]
        for (_, attempt, _), key, data in zip(old, keys, values, strict=True):
            entries += entries_of(run.id, attempt, _CODEC.load(key, data)) if data is not None else []
        change: Change[None] = Change(answer=None, drop=keys, leave=entries)
        await records.change([run_key(run.id)], change.regardless)
        place = members[-1]


def pair_writes(run: Run, pair: Pair) -> tuple[tuple[str, bytes], list[Entry]]:
    """The record and the entries of a pair of the current attempt."""
    key = _pair_key(run.id, run.attempt, pair.group_id)
    return (key, _CODEC.dump(pair)), entries_of(run.id, run.attempt, pair)


def entries_of(run_id: str, attempt: int, pair: Pair) -> list[Entry]:
    member = f"{_place(pair.update)}/{attempt:04d}/{pair.group_id}"
    entries = [
        Entry(_index(run_id), member),
        Entry(_index(run_id, f"of/{pair.prompt_id}"), member),
        Entry(_index(run_id, "margin"), f"{sortable(pair.margin)}/{member}"),
    ]
    return [*entries, Entry(_index(run_id, "conflict"), member)] if pair.conflicts else entries


@dataclass(frozen=True, slots=True, kw_only=True)
class _Way:
    """Through which index, from where, in which direction, and where it ends."""

    index: str
    start: str
    stop: str
    is_down: bool

    def is_past(self, member: str) -> bool:
        return member < self.stop if self.is_down else bool(self.stop) and member > self.stop


def _way(run_id: str, which: PairFilter, order: Order) -> _Way:
    """The smallest index that has every pair that is asked for, in the order that is asked for."""
    if order == "newest":
        name = f"of/{which.prompt_id}" if which.prompt_id is not None else "conflict" if which.conflict else ""
        start = "" if which.last_update is None else _place(which.last_update) + "~"
        return _Way(index=_index(run_id, name), start=start, stop=_place(which.first_update), is_down=True)
    low = "" if which.min_margin is None else sortable(which.min_margin)
    high = "" if which.max_margin is None else sortable(which.max_margin) + "~"
    if order == "largest_margin":
        return _Way(index=_index(run_id, "margin"), start=high, stop=low, is_down=True)
    return _Way(index=_index(run_id, "margin"), start=low, stop=high, is_down=False)


def sortable(value: float) -> str:
    """A number as text that sorts as numbers do."""
    (bits,) = struct.unpack(">Q", struct.pack(">d", value + 0.0))  # -0.0 is 0.0
    return f"{bits ^ (2**64 - 1 if bits >> 63 else 2**63):016x}"


def _parts(member: str) -> tuple[int, int, str]:
    """(update, attempt, group id), from an entry of any of the indexes."""
    *_, update, attempt, group_id = member.split("/")
    return int(update), int(attempt), group_id


def _place(update: int) -> str:
    return f"{max(update, 0):010d}"


def _index(run_id: str, name: str = "") -> str:
    return f"runs/{run_id}/pairs/{name}" if name else f"runs/{run_id}/pairs"


def _pair_key(run_id: str, attempt: int, group_id: str) -> str:
    return f"runs/{run_id}/pairs/{attempt}/{group_id}"
