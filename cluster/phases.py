"""Where the time of an update goes."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

# When several phases overlap, as sampling and scoring of different groups do, time belongs to the first of these.
ORDER = ("generate", "score", "update")


class PhaseClock:
    """Splits wall time between the phases that are under way; what belongs to none is `wait`."""

    def __init__(self) -> None:
        self._active: Counter[str] = Counter()
        self._seconds: defaultdict[str, float] = defaultdict(float)
        self._since = time.perf_counter()

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Counts the time within the block; blocks of concurrent tasks may overlap."""
        self._attribute()
        self._active[name] += 1
        try:
            yield
        finally:
            self._attribute()
            self._active[name] -= 1

    def lap(self) -> dict[str, float]:
        """Seconds per phase since the last lap; they sum to the wall time."""
        self._attribute()
        seconds = {name: self._seconds[name] for name in (*ORDER, "wait")}
        self._seconds.clear()
        return seconds

    def _attribute(self) -> None:
        now = time.perf_counter()
        current = next((name for name in ORDER if self._active[name]), "wait")
        self._seconds[current] += now - self._since
        self._since = now
