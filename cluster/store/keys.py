"""API keys. The store has only the hash of a key's secret, which is 256 random bits: nothing slower is needed.

A key as its owner sees it is `ovpo_<id>_<secret>`; the id finds the record, the secret proves the key.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import re
import secrets
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from cluster.store.codec import Codec
from cluster.store.records import Change, Entry, Records
from policies.errors import InputError

Scope: TypeAlias = Literal["score", "run", "admin"]

SCOPES: tuple[Scope, ...] = ("score", "run", "admin")
ALL_KEYS = "keys"
PAGE = 500

_FORM = re.compile(r"ovpo_([0-9a-f]{16})_([0-9a-f]{64})", re.ASCII)
_NOBODY = hashlib.sha256(b"").hexdigest()  # compared with when there is no such key, so that both take equally long


@dataclass(frozen=True, slots=True, kw_only=True)
class NewKey:
    """A key that nobody has been given yet. `token` is to be shown once and kept nowhere."""

    id: str
    token: str
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """What may be known of a key."""

    id: str
    name: str
    scopes: frozenset[Scope]
    created_at: float
    revoked_at: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stored:
    key: ApiKey
    digest: str


def new_key() -> NewKey:
    key_id, secret = secrets.token_hex(8), secrets.token_hex(32)
    return NewKey(id=key_id, token=f"ovpo_{key_id}_{secret}", digest=digest_of(secret))


def parse(token: str) -> tuple[str, str] | None:
    """(id, secret), or None if this has not the form of a key."""
    match = _FORM.fullmatch(token)
    return (match[1], match[2]) if match else None


def digest_of(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def verify(secret: str, digest: str | None) -> bool:
    """Whether a secret belongs to a hash, in a time that does not depend on either. None: there is no such key."""
    return hmac.compare_digest(digest_of(secret), digest or _NOBODY) and digest is not None


class Keys:
    """The keys that the store knows."""

    def __init__(self, records: Records) -> None:
        self._records = records
        self._codec = Codec(_Stored)

    async def add(self, new: NewKey, *, name: str, scopes: Collection[Scope]) -> ApiKey:
        """Makes a new key valid. Doing so again changes nothing."""
        if not scopes or not set(scopes) <= set(SCOPES):
            raise InputError(f"a key's scopes are some of {', '.join(SCOPES)}, not {sorted(scopes)}")

        def decide(values: Sequence[bytes | None], now: float) -> Change[ApiKey]:
            if values[0] is not None:
                return Change(answer=self._load(new.id, values[0]).key)
            key = ApiKey(id=new.id, name=name, scopes=frozenset(scopes), created_at=now)
            stored = self._codec.dump(_Stored(key=key, digest=new.digest))
            return Change(answer=key, put=[(_record(new.id), stored)], enter=[Entry(ALL_KEYS, new.id)])

        return await self._records.change([_record(new.id)], decide)

    async def find(self, key_id: str) -> ApiKey | None:
        (value,) = await self._records.read([_record(key_id)])
        return None if value is None else self._load(key_id, value).key

    async def authenticate(self, token: str) -> ApiKey | None:
        """The key that a token belongs to, unless it is revoked. What it may do is the caller's to check."""
        if (parts := parse(token)) is None:
            return None
        key_id, secret = parts
        (value,) = await self._records.read([_record(key_id)])
        stored = None if value is None else self._load(key_id, value)
        if not verify(secret, stored.digest if stored else None) or stored is None:
            return None
        return stored.key if stored.key.revoked_at is None else None

    async def all(self) -> list[ApiKey]:
        """Every key, oldest first, revoked ones too."""
        ids: list[str] = []
        while batch := await self._records.scan(ALL_KEYS, after=ids[-1] if ids else "", limit=PAGE):
            ids += batch
        found = await asyncio.gather(*map(self.find, ids))
        return sorted((key for key in found if key is not None), key=lambda key: (key.created_at, key.id))

    async def revoke(self, key_id: str) -> ApiKey | None:
        """From now on the key is refused. Again: the same answer. None: there is no such key."""

        def decide(values: Sequence[bytes | None], now: float) -> Change[ApiKey | None]:
            if values[0] is None:
                return Change(answer=None)
            stored = self._load(key_id, values[0])
            if stored.key.revoked_at is not None:
                return Change(answer=stored.key)
            key = replace(stored.key, revoked_at=now)
            return Change(answer=key, put=[(_record(key_id), self._codec.dump(replace(stored, key=key)))])

        return await self._records.change([_record(key_id)], decide)

    def _load(self, key_id: str, value: bytes) -> _Stored:
        return self._codec.load(_record(key_id), value)


def _record(key_id: str) -> str:
    return f"keys/{key_id}"
