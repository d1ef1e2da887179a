"""Work done ahead of whoever asks for it: reading and decoding videos beside a network that is busy."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Made = TypeVar("Made")


def made_ahead(make: Callable[[Item], Made], items: Iterable[Item], *, threads: int, ahead: int) -> Iterator[Made]:
    """What `make` makes of each item, in order; at most `ahead` results wait, or are in the making, unasked for.

    An error of `make` is raised where its result would have come.
    """
    pool = ThreadPoolExecutor(threads, thread_name_prefix="ahead")
    started: deque[Future[Made]] = deque()
    try:
        for item in items:
            started.append(pool.submit(make, item))
            if len(started) > ahead:
                yield started.popleft().result()
        while started:
            yield started.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
