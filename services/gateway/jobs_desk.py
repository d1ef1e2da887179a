"""What one server knows about jobs beyond the store: who waits for news of which, and what is being worked on here.

The store has no way of calling anyone. Whoever waits asks it again now and then, and sooner if the news is made here.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress


class News:
    """One waiter's view of one job."""

    def __init__(self) -> None:
        self._told = asyncio.Event()

    def tell(self) -> None:
        self._told.set()

    async def wait(self, seconds: float) -> None:
        """Returns once something happened since the last wait, or after some time."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._told.wait()
        self._told.clear()


class JobsDesk:
    """Shared by the routes and the workers of one server. All in one event loop."""

    def __init__(self) -> None:
        self._watching: dict[str, set[News]] = {}
        self._watchers: Counter[str] = Counter()
        self._stops: list[tuple[str, Callable[[], object]]] = []
        self.arrivals = News()
        self.is_closing = False

    @contextmanager
    def watching(self, job_id: str, owner: str) -> Iterator[News]:
        """News of a job. Begin to watch, then read the store, then wait: so nothing is missed."""
        news = News()
        self._watching.setdefault(job_id, set()).add(news)
        self._watchers[owner] += 1
        try:
            yield news
        finally:
            self._watchers[owner] -= 1
            if not self._watchers[owner]:
                del self._watchers[owner]
            self._watching[job_id].discard(news)
            if not self._watching[job_id]:
                del self._watching[job_id]

    @property
    def watchers(self) -> int:
        """Requests that wait for jobs or listen to them."""
        return self._watchers.total()

    def watchers_of(self, owner: str) -> int:
        """Those of one caller."""
        return self._watchers[owner]

    def tell(self, job_id: str) -> None:
        """Something happened to a job."""
        for news in self._watching.get(job_id, ()):
            news.tell()

    @contextmanager
    def working_on(self, job_id: str, stop: Callable[[], object]) -> Iterator[None]:
        """For as long as this lasts, `stop` ends the work on a job here.

        A job may be worked on twice for a moment: by who lost its lease and has not noticed, and by who took it.
        """
        self._stops.append((job_id, stop))
        try:
            yield
        finally:
            self._stops.remove((job_id, stop))

    def stop(self, job_id: str) -> None:
        """Ends the work on a job that was canceled, if it is done here."""
        for stop in [stop for known, stop in self._stops if known == job_id]:
            stop()
        self.tell(job_id)

    def close(self) -> None:
        """Nobody waits any longer: the server is about to end."""
        self.is_closing = True
        self.arrivals.tell()
        for job_id in list(self._watching):
            self.tell(job_id)
