"""Which replica gets the next call: the one with the fewest of this process's calls on it."""

from __future__ import annotations

import time
from collections import Counter, deque
from typing import Any

from ray.serve.request_router import FIFOMixin, PendingRequest, ReplicaID, RequestRouter, RunningReplica

from cluster.serving import known_replicas

_CHOSEN_S = 0.1  # until a choice counts as given up


class LeastBusy(FIFOMixin, RequestRouter):  # type: ignore[misc]  # Ray is not typed
    """Serve's own router compares two replicas drawn by chance, by counts that a call in flight does not show in.

    With one batch in flight per replica that would now and then queue two on one while another idles.
    """

    def initialize_state(self, **_: Any) -> None:
        """Serve calls it before the first request."""
        self._calls: Counter[ReplicaID] = Counter()
        self._chosen: dict[ReplicaID, deque[float]] = {}  # when, oldest first, as long as nothing was sent
        self._last: dict[ReplicaID, float] = {}
        known_replicas.know(self.app_name, self)

    async def choose_replicas(
        self, candidate_replicas: list[RunningReplica], pending_request: PendingRequest | None = None
    ) -> list[list[RunningReplica]]:
        """The one with the fewest calls; among equals, the one that was not chosen for longest."""
        if not candidate_replicas:
            return []
        now = time.monotonic()
        best = min(candidate_replicas, key=lambda one: self._load(one.replica_id, now))
        self._chosen.setdefault(best.replica_id, deque()).append(now)
        self._last[best.replica_id] = now
        return [[best]]

    def _load(self, replica: ReplicaID, now: float) -> tuple[int, float]:
        """Calls on it or about to be sent to it; one that was given up is about to be sent for a moment only."""
        chosen = self._chosen.get(replica, ())
        return self._calls[replica] + sum(now - then < _CHOSEN_S for then in chosen), self._last.get(replica, 0.0)

    def on_send_request(self, replica_id: ReplicaID) -> None:
        """Serve has sent a call."""
        super().on_send_request(replica_id)
        self._calls[replica_id] += 1
        if chosen := self._chosen.get(replica_id):
            chosen.pop()
            while chosen and time.monotonic() - chosen[0] >= _CHOSEN_S:
                chosen.popleft()

    def on_request_completed(self, replica_id: ReplicaID, internal_request_id: str) -> None:
        """Serve has an answer or an error."""
        if self._calls[replica_id] > 0:
            self._calls[replica_id] -= 1

    def update_replicas(self, replicas: list[RunningReplica]) -> None:
        """Serve has started or ended replicas."""
        super().update_replicas(replicas)
        for known in (self._calls, self._chosen, self._last):
            for gone in known.keys() - self.curr_replicas.keys():
                del known[gone]
