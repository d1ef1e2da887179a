"""Which replica gets the next call: the one with the fewest of this process's calls on it."""

from __future__ import annotations

import time
from collections import Counter, deque
from typing import Any

from ray.serve.request_router import FIFOMixin, PendingRequest, ReplicaID, RequestRouter, RunningReplica

from cluster.serving import known_replicas

_CHOSEN_S = 0.1  # until a choice counts as given up
_DOUBTFUL_S = 1.0  # by then Serve has said whether the replica is gone


class LeastBusy(FIFOMixin, RequestRouter):  # type: ignore[misc]  # Ray is not typed
    """Serve's own router compares two replicas drawn by chance, by counts that a call in flight does not show in.

    With one batch in flight per replica that would now and then queue two on one while another idles.
    """

    def initialize_state(self, **_: Any) -> None:
        """Serve calls it before the first request."""
        self._calls: Counter[ReplicaID] = Counter()
        self._chosen: dict[ReplicaID, deque[float]] = {}  # when, oldest first, as long as nothing was sent
        self._last: dict[ReplicaID, float] = {}
        self._doubtful: dict[ReplicaID, float] = {}  # could not be reached; until when others are better
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
        if not self._is_doubtful(best.replica_id, now):
            # or Serve would ask a replica that was idle for 10 s how much it has to do, before it sends the call
            self.on_new_queue_len_info(best.replica_id, self._calls[best.replica_id])
        return [[best]]

    def _load(self, replica: ReplicaID, now: float) -> tuple[bool, int, float]:
        """Calls on it or about to be sent to it; one that was given up is about to be sent for a moment only."""
        about = sum(now - then < _CHOSEN_S for then in self._chosen.get(replica, ()))
        return self._is_doubtful(replica, now), self._calls[replica] + about, self._last.get(replica, 0.0)

    def on_replica_actor_unavailable(self, replica_id: ReplicaID) -> None:
        """Serve could not reach it."""
        super().on_replica_actor_unavailable(replica_id)
        self._doubtful[replica_id] = time.monotonic() + _DOUBTFUL_S

    def _is_doubtful(self, replica: ReplicaID, now: float) -> bool:
        return self._doubtful.get(replica, 0.0) > now

    @property
    def reachable(self) -> int:
        """How many replicas could take a call now."""
        now = time.monotonic()
        return sum(not self._is_doubtful(replica, now) for replica in self.curr_replicas)

    def on_new_queue_len_info(self, replica_id: ReplicaID, num_ongoing_requests: int) -> None:
        """It has answered."""
        super().on_new_queue_len_info(replica_id, num_ongoing_requests)
        self._doubtful.pop(replica_id, None)

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
        for known in (self._calls, self._chosen, self._last, self._doubtful):
            for gone in known.keys() - self.curr_replicas.keys():
                del known[gone]
