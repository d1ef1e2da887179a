"""Brings what a run says to the store, from a thread of its own: in order, each thing once, whatever fails."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, TypeAlias

from pydantic import Field, TypeAdapter

from cluster.errors import LeaseLostError
from cluster.log_spool import Spool
from cluster.run_directory import RunDirectory
from cluster.run_facts import lines_between, pairs_of, told_of
from cluster.store.open import open_store
from cluster.store.run_items import Dropped, Happened, Item, Line, Told
from cluster.store.run_record import EndState
from cluster.store.runs import Origin
from cluster.store.store import Store
from policies.errors import InputError

HEARTBEAT_S = 5.0
LONGEST_PAUSE_S = 2.0  # between two attempts to reach a store
AT_ONCE = 256  # things said, or lines of a file, in one write


@dataclass(frozen=True, slots=True, kw_only=True)
class Groups:
    """The groups that an update trained on; their pairs are read from their files when they are sent."""

    update: int
    group_ids: tuple[str, ...]
    kind: Literal["groups"] = "groups"


Said: TypeAlias = Annotated[Item | Groups, Field(discriminator="kind")]
SAID: TypeAdapter[Said] = TypeAdapter(Said)


class Sender:
    """One attempt of a run. `say` is told, in words, when the store goes away and when it is back."""

    def __init__(
        self,
        address: str,
        origin: Origin,
        directory: RunDirectory,
        spool: Spool,
        *,
        first_update: int,
        say: Callable[[str], None],
        interval_s: float,
        deadline_s: float,
    ) -> None:
        self._address, self._origin, self._directory, self._spool = address, origin, directory, spool
        self._next_update = first_update  # the first whose line the store has not acknowledged
        self._say, self._interval_s, self._deadline_s = say, interval_s, deadline_s
        self._store: Store | None = None
        self._token = ""
        self._is_away = self._is_over = False
        self._pause_s, self._heard_at = interval_s, 0.0
        self._closing = threading.Event()
        self._end: EndState = "failed"
        self._limit_s = 0.0
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main()), name="run log", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self, end: EndState, *, limit_s: float) -> None:
        """Sends the rest and how it ended, for so long at most. What is left then stays on the disk."""
        self._end, self._limit_s = end, limit_s
        self._closing.set()
        self._thread.join(limit_s + self._deadline_s)

    async def _main(self) -> None:
        for body in self._from_disk():
            self._spool.push(body)
        while not self._closing.wait(self._pause_s):
            await self._round()
        with contextlib.suppress(Exception):  # what could not be said by then is on the disk and in the run directory
            async with asyncio.timeout(self._limit_s):
                await self._last_rounds()
        with contextlib.suppress(sqlite3.Error, OSError):
            self._spool.spill()
        self._spool.close()
        if self._store is not None:
            await self._store.close()

    def _from_disk(self) -> list[bytes]:
        """Events alone: lines and pairs of a former process are read from the run directory."""
        try:
            return [body for body in self._spool.left_behind() if isinstance(SAID.validate_json(body), Happened)]
        except (sqlite3.Error, OSError, ValueError) as error:
            self._say(f"what the run had not told the store before cannot be read: {error}")
            return []

    async def _round(self) -> bool:
        """Sends all that there is. False: not now."""
        if self._is_over:
            self._forget_all()
            return True
        try:
            await self._send_all(await self._begun())
        except InputError as error:
            self._say(f"the run is not written to the store: {error}")
            self._is_over = True
        except LeaseLostError:
            self._token = ""  # the store was rebuilt, or lost; the next round begins anew
            return False
        except Exception as error:  # whatever it is, it is not the run's
            self._away(error)
            return False
        return True

    async def _last_rounds(self) -> None:
        while not await self._round():
            await asyncio.sleep(self._interval_s)
        if not self._is_over and self._store is not None:
            await self._store.runs.end(self._origin.run_id, self._token, self._end)

    async def _begun(self) -> Store:
        if self._store is None:
            self._store = await open_store(self._address, deadline_s=self._deadline_s)
        if not self._token:
            await self._begin(self._store)
        return self._store

    async def _begin(self, store: Store) -> None:
        """A new attempt; one more before it when the store lacks lines that the run directory has."""
        for is_catching_up in (True, False):
            token = uuid.uuid4().hex
            begun = await store.runs.begin(self._origin, token=token, first_update=self._next_update)
            if begun.first_update is None:
                self._is_over = True  # completed before: there is nothing to tell
                return
            if is_catching_up and begun.first_update < self._next_update:
                await retell(store, self._directory, token, begun.first_update, self._next_update)
                continue
            self._token = token
            return

    async def _send_all(self, store: Store) -> None:
        while entries := self._spool.take(AT_ONCE):
            said = [(entry.position, SAID.validate_json(entry.body)) for entry in entries]
            told = [Told(position, item) for position, each in said for item in self._items(each)]
            await store.runs.tell(self._origin.run_id, self._token, told)
            self._heard()
            updates = [each.update for _, each in said if isinstance(each, Line)]
            self._next_update = max([self._next_update, *(update + 1 for update in updates)])
            self._spool.done(entries[-1].position)
            self._tell_losses()
        if time.monotonic() - self._heard_at > HEARTBEAT_S:
            await store.runs.tell(self._origin.run_id, self._token)
            self._heard()

    def _items(self, said: Said) -> Sequence[Item]:
        if isinstance(said, Groups):
            return list(pairs_of(self._directory, said.update, said.group_ids))
        return [said]

    def _heard(self) -> None:
        self._heard_at, self._pause_s = time.monotonic(), self._interval_s
        if self._is_away:
            self._is_away = False
            self._say("the store is back")
            self._push(Happened(what="note", code="store_back", text="the store is back", at=time.time()))

    def _away(self, error: Exception) -> None:
        if not self._is_away:
            self._is_away = True
            self._say(f"the store cannot be reached; the run goes on, what it says is kept for later: {error}")
            self._push(Happened(what="alarm", code="store_away", text="the store could not be reached", at=time.time()))
        self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)
        if self._spool.is_half_full:
            with contextlib.suppress(sqlite3.Error, OSError):
                self._spool.spill()

    def _tell_losses(self) -> None:
        points, others = self._spool.lost()
        if points:
            self._push(Dropped(points=points))
        if points or others:
            text = f"the store was away for too long: {points} points and {others} other things were not kept"
            self._say(text)
            self._push(Happened(what="alarm", code="log_dropped", text=text, at=time.time()))

    def _push(self, item: Item) -> None:
        self._spool.push(SAID.dump_json(item))

    def _forget_all(self) -> None:
        while entries := self._spool.take(AT_ONCE):
            self._spool.done(entries[-1].position)


async def retell(store: Store, directory: RunDirectory, token: str, first: int, end: int) -> int:
    """Tells of the updates from `first` to before `end` as the run directory has them; how many there were."""
    told: list[Told] = []
    lines = 0
    run_id = directory.path.name
    for lines, line in enumerate(lines_between(directory.metrics, first, end), start=1):
        told += [Told(lines, item) for item in told_of(directory, line)]
        if len(told) >= AT_ONCE:
            await store.runs.tell(run_id, token, told)
            told = []
    if told:
        await store.runs.tell(run_id, token, told)
    return lines
