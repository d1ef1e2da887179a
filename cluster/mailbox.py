"""The mailbox between the controller of a run and the ranks of its learner.

A Ray Train worker cannot be called, so ranks ask: each long-polls for the command at its position and hands back what
the previous one gave. A position is the number of commands before it; it names a command for good, so everything
here can be repeated: a controller that submits again, a rank that asks again, a rebuilt group that starts from an
older position, a mailbox that died and came back empty.

Plain asyncio; `ray.remote(Mailbox)` makes it an actor. Commands and answers are small JSON-able dicts, no arrays.
"""

from __future__ import annotations

import asyncio
import os
from collections import defaultdict
from collections.abc import Mapping
from typing import Any, TypeAlias

Command: TypeAlias = Mapping[str, Any]  # {"kind": "update", ...}
Answer: TypeAlias = Mapping[str, Any]  # {"weights_hash": ..., ...}
Failure: TypeAlias = Mapping[str, Any]  # {"type": ..., "message": ..., "trace": ...}


class Mailbox:
    """Commands by position, answers by position and rank."""

    def __init__(self, *, world_size: int, is_exact: bool) -> None:
        self._world_size = world_size
        self._is_exact = is_exact  # whether a repeated command must give the same weights to the bit: true on CPU
        self._incarnation: int | None = None  # of the worker group: Train rebuilds all ranks when one dies
        self._hashes: dict[int, str] = {}  # of the weights after each command
        self._commands: dict[int, Command] = {}
        self._answers: defaultdict[int, dict[int, Answer]] = defaultdict(dict)
        self._members: dict[int, Mapping[str, Any]] = {}
        self._asked: dict[int, int] = {}  # the position that each rank last asked for
        self._failure: Failure | None = None
        self._news = asyncio.Event()

    async def pid(self) -> int:
        """Answers when the mailbox is up."""
        return os.getpid()

    # -- the controller's side -----------------------------------------------------------------------------------

    async def execute(self, commands: Mapping[int, Command]) -> dict[str, Any]:
        """Submits commands and waits until every rank has answered the last of them.

        Normally there is one. If this mailbox was born after the others were given, a rank may need those, too.

        Returns:
            {"answers": [one per rank], "pids": [...], "mailbox": pid}, or {"failure": ...}, or {"missing": a position
            that a rank asks for}.
        """
        for position, command in commands.items():
            known = self._commands.setdefault(position, command)
            if known != command:
                raise ValueError(f"position {position} is {known['kind']}, so it cannot be {command['kind']}")
        self._announce()
        last = max(commands)
        while self._failure is None and len(self._answers[last]) < self._world_size:
            missing = [asked for asked in self._asked.values() if asked < last and asked not in self._commands]
            if missing:
                return {"missing": min(missing)}
            await self._news.wait()
        if self._failure is not None:
            return {"failure": self._failure}
        answers = self._answers[last]
        return {
            "answers": [answers[rank] for rank in range(self._world_size)],
            "pids": self._pids(),
            "mailbox": os.getpid(),
        }

    async def members(self) -> dict[str, Any]:
        """Waits until every rank has asked for a command; says what each was restored to."""
        while self._failure is None and len(self._members) < self._world_size:
            await self._news.wait()
        if self._failure is not None:
            return {"failure": self._failure}
        return {"members": [self._members[rank] for rank in range(self._world_size)], "pids": self._pids()}

    async def forget(self, before: int) -> None:
        """Drops commands and answers that no commit in use leads back to."""
        for position in [known for known in self._commands if known < before]:
            del self._commands[position]
        for position in [known for known in self._answers if known < before]:
            del self._answers[position]
        for position in [known for known in self._hashes if known < before]:
            del self._hashes[position]

    # -- a rank's side -------------------------------------------------------------------------------------------

    async def poll(
        self, rank: int, position: int, member: Mapping[str, Any], answer: Answer | None, wait_s: float
    ) -> Command | None:
        """Takes the answer to `position - 1`, then waits for the command at `position`; None when there is none yet."""
        self._join(rank, position, member)
        if answer is not None:
            self._accept(rank, position - 1, answer)
        self._asked[rank] = position
        self._announce()
        try:
            async with asyncio.timeout(wait_s):
                while position not in self._commands:
                    await self._news.wait()
        except TimeoutError:
            return None
        return self._commands[position]

    async def fail(self, rank: int, failure: Failure) -> None:
        """Ends the run: a rank's own code raised."""
        self._failure = self._failure or {**failure, "rank": rank}
        self._announce()

    def _join(self, rank: int, position: int, member: Mapping[str, Any]) -> None:
        """A rebuilt group answers anew, from the position that it was restored to."""
        if member["incarnation"] != self._incarnation:
            self._incarnation = member["incarnation"]
            self._members.clear()
            self._asked.clear()
            for known in [known for known in self._answers if known >= position]:
                del self._answers[known]
                if not self._is_exact:
                    del self._hashes[known]
        self._members[rank] = member

    def _accept(self, rank: int, position: int, answer: Answer) -> None:
        """Every rank, and every repetition, must have arrived at the same weights."""
        self._answers[position][rank] = answer
        known = self._hashes.setdefault(position, answer["weights_hash"])
        if answer["weights_hash"] != known:
            self._failure = self._failure or {
                "type": "WeightsMismatchError",
                "message": f"rank {rank} answered command {position} with weights {answer['weights_hash'][:12]}, but "
                f"{known[:12]} were known: a repeated command or another rank gave other weights",
                "trace": "",
                "rank": rank,
            }

    def _pids(self) -> list[int]:
        return [int(member["pid"]) for _, member in sorted(self._members.items())]

    def _announce(self) -> None:
        """Wakes everyone who waits; whoever waits next waits for the next news."""
        self._news.set()
        self._news = asyncio.Event()
