"""Runs: what each is, and how far it is. The run directory is the truth; this is an index of it.

A run's state moves forward: queued, running, then completed, stopped, failed or canceled; a run that was resumed runs
again as its next attempt, a completed one is over for good. Whoever runs it holds a token from `begin`; what is written
with a former one is refused, so two writers never mix.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from cluster.errors import LeaseLostError
from cluster.store.forgetting import forget_attempts, forget_run
from cluster.store.pages import Page, page_of
from cluster.store.records import STAMP_DIGITS, Change, Entry, Records, stamp
from cluster.store.run_items import Told
from cluster.store.run_record import ALL, EndState, Run, Stored, dump, load, owner_index, run_key
from cluster.store.run_writes import written
from policies.errors import InputError

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """What a run is, as its writer knows it. `created_at` is now, unless it says otherwise."""

    run_id: str
    owner: str
    run_dir: str | None = None
    config_digest: str | None = None
    forked_from: str | None = None
    updates: int | None = None
    created_at: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """`first_update` is from where on the writer has to tell, which is earlier than it said when the store lacks some.

    None: the run was completed, there is nothing to tell.
    """

    run: Run
    first_update: int | None


class Runs:
    """Every run that was told of, newest first."""

    def __init__(self, records: Records) -> None:
        self._records = records

    async def create(self, origin: Origin) -> Run:
        """A run that waits to begin. Doing so again gives the one that there is.

        Raises:
            InputError: the id is another owner's, or that of another configuration.
        """

        def decide(values: Sequence[bytes | None], now: float) -> Change[Run]:
            if (stored := load(origin.run_id, values[0])) is None:
                run = _new(origin, now)
                return _entered(Stored(run=run, token=""), run)
            known = stored.run
            if known.owner != origin.owner or _differ(known.config_digest, origin.config_digest):
                raise InputError(f"the run id {origin.run_id!r} is taken; choose another")
            return Change(answer=known)

        return await self._records.change([run_key(origin.run_id)], decide)

    async def get(self, run_id: str) -> Run | None:
        """Whoever asks must be its owner: that is the caller's to check."""
        (value,) = await self._records.read([run_key(run_id)])
        stored = load(run_id, value)
        return stored.run if stored else None

    async def page(self, owner: str | None = None, *, cursor: str | None = None, limit: int = 50) -> Page[Run]:
        """An owner's runs, or everybody's, newest first."""
        index = ALL if owner is None else owner_index(owner)
        return await page_of(
            self._records, index, _run, lambda member: run_key(member[STAMP_DIGITS:]), cursor=cursor, limit=limit
        )

    async def begin(self, origin: Origin, *, token: str, first_update: int, is_rewrite: bool = False) -> Begun:
        """The next attempt of a run, which there may not have been before. With the same token again: the same attempt.

        Args:
            token: a name that the writer made up, new for each attempt.
            first_update: what earlier attempts told from there on is void.
            is_rewrite: tells all of it again from its directory; its state stays.
        Raises:
            InputError: the id belongs to a run in another directory.
        """

        def decide(values: Sequence[bytes | None], now: float) -> Change[Begun]:
            stored = load(origin.run_id, values[0])
            if stored is None:
                stored = Stored(run=_new(origin, now), token="")
            elif stored.token == token:
                return Change(answer=Begun(run=stored.run, first_update=stored.run.attempts[-1]))
            run = stored.run
            if _differ(run.run_dir, origin.run_dir):
                raise InputError(f"the run id {run.id!r} is taken by the run in {run.run_dir}; choose another run_id")
            if run.state == "completed" and not is_rewrite:
                return Change(answer=Begun(run=run, first_update=None))
            begun = _attempt(run, origin, min(first_update, run.last_update + 1), now, is_rewrite=is_rewrite)
            return _entered(Stored(run=begun, token=token), Begun(run=begun, first_update=begun.attempts[-1]))

        return await self._records.change([run_key(origin.run_id)], decide)

    async def tell(self, run_id: str, token: str, told: Sequence[Told] = ()) -> Run:
        """Writes what happened, all of it or nothing, each position once; says that the run is alive.

        Raises:
            LeaseLostError: another attempt has begun, or the run is not known any more.
        """

        def decide(values: Sequence[bytes | None], now: float) -> Change[Run]:
            return written(_held(run_id, token, values[0]), told, now)

        return await self._records.change([run_key(run_id)], decide)

    async def end(self, run_id: str, token: str, state: EndState, *, at: float | None = None) -> Run:
        """How the attempt ended; what has ended already stays as it is. Raises LeaseLostError, as `tell`."""

        def decide(values: Sequence[bytes | None], now: float) -> Change[Run]:
            return _end(_held(run_id, token, values[0]), state, now if at is None else at)

        return await self._records.change([run_key(run_id)], decide)

    async def cancel(self, run_id: str) -> Run | None:
        """Marks a run that has not ended as canceled; to stop it is the caller's business. None: there is none."""

        def decide(values: Sequence[bytes | None], now: float) -> Change[Run | None]:
            stored = load(run_id, values[0])
            return Change(answer=None) if stored is None else _end(stored, "canceled", now)

        return await self._records.change([run_key(run_id)], decide)

    async def forget(self, run_id: str) -> None:
        """Removes all that is known of a run. Nobody may be writing it."""
        await forget_run(self._records, run_id)

    async def forget_earlier_attempts(self, run_id: str) -> None:
        """Removes curves and pairs of the attempts before the current one, which must have told everything again."""
        await forget_attempts(self._records, run_id)


def _new(origin: Origin, now: float) -> Run:
    return Run(
        id=origin.run_id, owner=origin.owner, state="queued", run_dir=origin.run_dir, updates=origin.updates,
        config_digest=origin.config_digest, forked_from=origin.forked_from,
        created_at=now if origin.created_at is None else origin.created_at,
    )  # fmt: skip


def _attempt(run: Run, origin: Origin, first: int, now: float, *, is_rewrite: bool) -> Run:
    known = replace(
        run,
        run_dir=origin.run_dir,
        config_digest=origin.config_digest,
        updates=origin.updates,
        forked_from=run.forked_from or origin.forked_from,
        attempts=(*run.attempts, first),
        last_update=min(run.last_update, first - 1),
    )
    if is_rewrite:
        return known
    started = now if run.started_at is None else run.started_at
    return replace(known, state="running", started_at=started, ended_at=None, heartbeat_at=now)


def _end(stored: Stored, state: EndState, at: float) -> Change[Run]:
    if stored.run.has_ended:
        return Change(answer=stored.run)
    run = replace(stored.run, state=state, ended_at=at, stage=None)
    return Change(answer=run, put=[dump(replace(stored, run=run))])


def _entered(stored: Stored, answer: T) -> Change[T]:
    run = stored.run
    member = stamp(run.created_at) + run.id
    return Change(answer=answer, put=[dump(stored)], enter=[Entry(ALL, member), Entry(owner_index(run.owner), member)])


def _held(run_id: str, token: str, value: bytes | None) -> Stored:
    stored = load(run_id, value)
    if stored is None:
        raise LeaseLostError(f"run {run_id} is not in the store")
    if stored.token != token:
        raise LeaseLostError(f"run {run_id} is told by another writer, as its attempt {stored.run.attempt}")
    return stored


def _differ(one: str | None, other: str | None) -> bool:
    return one is not None and other is not None and one != other


def _run(key: str, value: bytes) -> Run:
    stored = load(key.removeprefix(run_key("")), value)
    assert stored is not None
    return stored.run
