"""The store by its address."""

from __future__ import annotations

import time
from pathlib import Path

from cluster.store.records import Clock, Records
from cluster.store.sqlite import open_sqlite
from cluster.store.store import Store
from policies.errors import InputError

REDIS_SCHEMES = ("redis", "rediss", "unix")
DEADLINE_S = 5.0
PREFIX = "onlinevpo"


async def open_store(
    address: str | Path, *, deadline_s: float = DEADLINE_S, prefix: str = PREFIX, clock: Clock | None = None
) -> Store:
    """Opens a store.

    Args:
        address: path of a SQLite file, or the URL of a Redis or Valkey server: redis://, rediss:// (TLS),
            unix:///path/to/socket.
        deadline_s: what any call may take, in seconds; a slower one raises StoreUnavailableError.
        prefix: what names on a Redis server begin with, so that several stores can share one.
        clock: seconds since 1970; by default this machine's for SQLite and the server's for Redis.

    Raises:
        InputError: the address, the server's version, or its lack of protection.
        StoreUnavailableError: it cannot be opened now.
    """
    scheme, separator, _ = str(address).partition("://")
    records: Records
    if not separator:
        records = await open_sqlite(Path(address), deadline_s=deadline_s, clock=clock or time.time)
    elif scheme in REDIS_SCHEMES:
        from cluster.store.redis import open_redis  # redis takes 0.2 s to import

        records = await open_redis(str(address), prefix=prefix, deadline_s=deadline_s, clock=clock)
    else:
        raise InputError(
            f"a store is a path or a URL with {', '.join(f'{name}://' for name in REDIS_SCHEMES)}, not {scheme}://"
        )
    return Store(records)
