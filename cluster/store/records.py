"""What a backend of the store can do: change a few records at once, list names in order, keep series of entries.

Everything above this file is written once, in terms of `Records`; SQLite and Redis each implement only this. A change
is a pure decision: it is shown the records it named and the store's time, and says what to write. The backend makes it
atomic, which may mean deciding again when someone else wrote in between.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, NamedTuple, Protocol, TypeAlias, TypeVar

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

Clock: TypeAlias = Callable[[], float]
"""Seconds since 1970."""

STAMP_DIGITS = 16  # microseconds until the year 2286


class Entry(NamedTuple):
    """A name in an index. An index keeps its members sorted by their bytes."""

    index_name: str
    member: str


class Splice(NamedTuple):
    """Bytes that replace those of a record from an offset on. A record that is too short is filled up with zeros."""

    key: str
    offset: int
    data: bytes


class Numbered(NamedTuple):
    """The next entry of a series; its number is above those of all before it."""

    series: str
    number: int
    value: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Change(Generic[T_co]):
    """What a decision comes to: its answer, and writes that all happen or none, in the order in which they stand here.

    `erase` names series that begin again from nothing.
    """

    answer: T_co
    drop: Sequence[str] = ()
    put: Sequence[tuple[str, bytes]] = ()
    splice: Sequence[Splice] = ()
    leave: Sequence[Entry] = ()
    enter: Sequence[Entry] = ()
    erase: Sequence[str] = ()
    append: Sequence[Numbered] = ()

    def regardless(self, values: Sequence[bytes | None], now: float) -> Change[T_co]:
        """The decision for this change whatever the records are."""
        return self

    @property
    def writes(self) -> bool:
        one_sort = (self.drop, self.put, self.splice, self.leave, self.enter, self.erase, self.append)
        return any(one_sort)


Decide: TypeAlias = Callable[[Sequence[bytes | None], float], Change[T]]
"""From the records' values, in the order of their keys, and the time. May raise; then nothing is written."""


class Records(Protocol):
    """Every method raises StoreUnavailableError when it cannot answer within the store's deadline."""

    async def change(self, keys: Sequence[str], decide: Decide[T]) -> T:
        """Decides and writes as one step. The answer comes once the writes are as durable as the backend makes them."""

    async def read(self, keys: Sequence[str]) -> list[bytes | None]: ...

    async def scan(
        self, index: str, *, after: str = "", until: str = "", limit: int, newest_first: bool = False
    ) -> list[str]:
        """Members strictly beyond `after` in the direction of travel, and before `until`; empty means no bound."""

    async def count(self, index: str) -> int: ...

    async def read_series(self, series: str, *, after: int = 0, limit: int) -> list[tuple[int, bytes]]:
        """Entries with a number above `after` and their numbers, in order."""

    async def now(self) -> float:
        """One clock for all who share the store: leases end by it."""

    async def ping(self) -> None: ...

    async def close(self) -> None: ...


def stamp(seconds: float) -> str:
    """A time as text that sorts."""
    return f"{int(seconds * 1e6):0{STAMP_DIGITS}d}"


def up_to(seconds: float) -> str:
    """The bound of a scan that takes in all that is stamped with this time or an earlier one."""
    return stamp(seconds) + "~"


def new_id() -> str:
    """32 hexadecimal digits; later ones sort later, as far as the clocks of their makers agree."""
    return f"{time.time_ns() // 1000:014x}{secrets.token_hex(9)}"
