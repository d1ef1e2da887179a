"""What a backend of the store can do: change a few records at once, and list names in order.

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Change(Generic[T_co]):
    """What a decision comes to: its answer, and writes that all happen or none."""

    answer: T_co
    put: Sequence[tuple[str, bytes]] = ()
    drop: Sequence[str] = ()
    enter: Sequence[Entry] = ()
    leave: Sequence[Entry] = ()

    @property
    def writes(self) -> bool:
        return bool(self.put or self.drop or self.enter or self.leave)


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
