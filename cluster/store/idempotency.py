"""Repeated requests: the second one with a key gets the answer of the first, also after a restart.

The first request holds the key for as long as its lease lasts. If its process dies, the next one with the same body
takes over and is told the same `operation_id`: what the first had begun under that id (a job) is found, not made twice.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias, TypeVar

from pydantic import with_config

from cluster.errors import LeaseLostError
from cluster.store.codec import BYTES_AS_BASE64, Codec
from cluster.store.records import STAMP_DIGITS, Change, Entry, Records, new_id, stamp, up_to
from cluster.store.sweep import sweep

T = TypeVar("T")

RETENTION_S = 24 * 3600.0
EXPIRY = "idempotency"


@dataclass(frozen=True, slots=True, kw_only=True)
@with_config(BYTES_AS_BASE64)
class Answer:
    """What the first request was answered, to be given again as it was."""

    status: int
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticket:
    """The right to answer a key; someone else's `token` ends it."""

    record: str
    token: str
    operation_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Fresh:
    """Do the work, then `finish` or `abandon`."""

    ticket: Ticket


@dataclass(frozen=True, slots=True, kw_only=True)
class InProgress:
    """Another request with this key is being worked on."""

    retry_after_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    answer: Answer


@dataclass(frozen=True, slots=True, kw_only=True)
class OtherBody:
    """The key was used for another request before."""


Begun: TypeAlias = Fresh | InProgress | Done | OtherBody


@dataclass(frozen=True, slots=True, kw_only=True)
@with_config(BYTES_AS_BASE64)
class _Stored:
    body_hash: str
    operation_id: str
    token: str
    leased_until: float
    expires_at: float
    expiry: str  # its name in the index of what expires
    answer: Answer | None = None


class Idempotency:
    """Requests by (owner, key)."""

    def __init__(self, records: Records) -> None:
        self._records = records
        self._codec = Codec(_Stored)

    async def begin(self, owner: str, key: str, body_hash: str, *, lease_s: float) -> Begun:
        """What to do with a request. `lease_s`: how long it may take before it counts as dead."""
        record = _record(owner, key)
        token, operation_id = secrets.token_hex(8), new_id()

        def decide(values: Sequence[bytes | None], now: float) -> Change[Begun]:
            known = None if values[0] is None else self._codec.load(record, values[0])
            if known is None or known.expires_at <= now:
                return begin(now, operation_id, known)
            if known.body_hash != body_hash:
                return Change(answer=OtherBody())
            if known.answer is not None:
                return Change(answer=Done(answer=known.answer))
            if known.leased_until > now:
                return Change(answer=InProgress(retry_after_s=known.leased_until - now))
            return begin(now, known.operation_id, known)

        def begin(now: float, operation: str, known: _Stored | None) -> Change[Begun]:
            expires_at = now + lease_s + RETENTION_S
            stored = _Stored(
                body_hash=body_hash, operation_id=operation, token=token, leased_until=now + lease_s,
                expires_at=expires_at, expiry=stamp(expires_at) + record,
            )  # fmt: skip
            ticket = Ticket(record=record, token=token, operation_id=operation)
            return self._replace(record, known, stored, Fresh(ticket=ticket))

        return await self._records.change([record], decide)

    async def finish(self, ticket: Ticket, answer: Answer) -> None:
        """Keeps the answer for a day. Raises LeaseLostError when the key was taken over."""

        def decide(values: Sequence[bytes | None], now: float) -> Change[None]:
            known = self._held(ticket, values[0])
            if known.answer is not None:
                return Change(answer=None)
            expires_at = now + RETENTION_S
            stored = replace(known, answer=answer, expires_at=expires_at, expiry=stamp(expires_at) + ticket.record)
            return self._replace(ticket.record, known, stored, None)

        await self._records.change([ticket.record], decide)

    async def renew(self, ticket: Ticket, *, lease_s: float) -> None:
        """More time, from now. Raises LeaseLostError when the key was taken over."""

        def decide(values: Sequence[bytes | None], now: float) -> Change[None]:
            known = self._held(ticket, values[0])
            stored = replace(known, leased_until=now + lease_s)
            return Change(answer=None, put=[(ticket.record, self._codec.dump(stored))])

        await self._records.change([ticket.record], decide)

    async def abandon(self, ticket: Ticket) -> None:
        """Forgets the request: it may be sent again. Nothing happens when the key was taken over or answered."""

        def decide(values: Sequence[bytes | None], now: float) -> Change[None]:
            known = None if values[0] is None else self._codec.load(ticket.record, values[0])
            if known is None or known.token != ticket.token or known.answer is not None:
                return Change(answer=None)
            return Change(answer=None, drop=[ticket.record], leave=[Entry(EXPIRY, known.expiry)])

        await self._records.change([ticket.record], decide)

    async def purge(self) -> int:
        """Removes what has expired; how many records that was."""
        until = up_to(await self._records.now())
        return await sweep(self._records, EXPIRY, until, self._forget)

    async def _forget(self, member: str) -> None:
        record = member[STAMP_DIGITS:]

        def decide(values: Sequence[bytes | None], now: float) -> Change[None]:
            known = None if values[0] is None else self._codec.load(record, values[0])
            gone = [record] if known is not None and known.expiry == member else []
            return Change(answer=None, drop=gone, leave=[Entry(EXPIRY, member)])

        await self._records.change([record], decide)

    def _held(self, ticket: Ticket, value: bytes | None) -> _Stored:
        known = None if value is None else self._codec.load(ticket.record, value)
        if known is None or known.token != ticket.token:
            raise LeaseLostError("this request took longer than its lease, and its idempotency key has passed on")
        return known

    def _replace(self, record: str, old: _Stored | None, new: _Stored, answer: T) -> Change[T]:
        return Change(
            answer=answer,
            put=[(record, self._codec.dump(new))],
            leave=[Entry(EXPIRY, old.expiry)] if old else [],
            enter=[Entry(EXPIRY, new.expiry)],
        )


def _record(owner: str, key: str) -> str:
    """Whatever a caller chose as a key, in 64 digits; lengths keep (owner, key) apart."""
    return f"idempotency/{hashlib.sha256(f'{len(owner)}:{owner}{key}'.encode()).hexdigest()}"
