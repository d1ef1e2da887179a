"""What a batcher counts, for whoever publishes it, and how fast it has been lately."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field

MEMORY_S = 30.0
_NEWS = 0.25  # what the newest batch weighs


@dataclass(slots=True, kw_only=True)
class BatcherCounters:
    """Totals since the start. They only grow, but for `queued` and `running`."""

    queued: int = 0
    """Items that wait now."""
    running: int = 0
    """Batches that run now."""
    accepted: int = 0
    """Items that were let in."""
    refused_by_caller: int = 0
    """Items that were turned away because their caller has too many waiting."""
    refused_by_queue: int = 0
    """Items that were turned away because too many wait in all."""
    batches: int = 0
    """Batches that ended."""
    items: int = 0
    """Items of those batches."""
    batch_sizes: Counter[int] = field(default_factory=Counter)
    """How many batches had so many items."""
    dropped_late: int = 0
    """Items whose deadline passed before they were run."""
    dropped_cancelled: int = 0
    """Items whose caller went away before they were run."""
    failed_batches: int = 0
    """Batches that ended with an exception or without an answer for each item."""
    waited_s: float = 0.0
    """Seconds that the items of those batches waited, in all."""
    inference_s: float = 0.0
    """Seconds that the models computed, in all."""


class Rate:
    """Items per second of the time in which anything ran; what is long ago counts for little."""

    def __init__(self) -> None:
        self._items, self._busy_s = 0.0, 0.0
        self._since = 0.0

    def begin(self, now: float) -> None:
        """Something runs, where nothing ran."""
        self._since = now

    def count(self, items: int, now: float) -> None:
        """So many items are done, and it was busy until now."""
        passed = now - self._since
        faded = math.exp(-passed / MEMORY_S)
        self._items, self._busy_s, self._since = self._items * faded + items, self._busy_s * faded + passed, now

    def per_second(self, now: float, *, is_busy: bool) -> float | None:
        """None: nothing is known yet. What runs right now and takes long counts, too."""
        busy = self._busy_s + (now - self._since if is_busy else 0.0)
        return self._items / busy if self._items and busy > 0 else None


class Pace:
    """Whether a batch takes longer to get to a replica and back than to run there, of late."""

    def __init__(self) -> None:
        self._hop_ms: float | None = None
        self._inference_ms: float | None = None

    @property
    def is_bound_by_hops(self) -> bool:
        """False as long as nothing is known."""
        return self._hop_ms is not None and self._inference_ms is not None and self._inference_ms < self._hop_ms

    def count(self, took_ms: float, inference_ms: float, *, waited: bool) -> None:
        """A batch took so long in all. `waited`: it was sent ahead, so part of that was its turn in the replica."""
        self._inference_ms = _nearer(self._inference_ms, inference_ms)
        if not waited:
            self._hop_ms = _nearer(self._hop_ms, max(took_ms - inference_ms, 0.0))


def _nearer(known: float | None, found: float) -> float:
    return found if known is None else known + _NEWS * (found - known)
