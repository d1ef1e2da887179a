"""Which replica gets the next call: the one with the fewest of this process's calls on it."""

from __future__ import annotations

from collections import Counter
from itertools import count
from typing import Any

from ray.serve.request_router import FIFOMixin, PendingRequest, ReplicaID, RequestRouter, RunningReplica

from cluster.serving import known_replicas


class LeastBusy(FIFOMixin, RequestRouter):  # type: ignore[misc]  # Ray is not typed
    """Serve's own router compares two replicas drawn by chance, by counts that a call in flight does not show in.

    With one batch in flight per replica that would now and then queue two on one while another idles.
    """

    def initialize_state(self, **_: Any) -> None:
        """Serve calls it before the first request."""
        self._calls: Counter[ReplicaID] = Counter()
        self._chosen: dict[ReplicaID, int] = {}
        self._number = count()
        known_replicas.know(self.app_name, self)

    async def choose_replicas(
        self, candidate_replicas: list[RunningReplica], pending_request: PendingRequest | None = None
    ) -> list[list[RunningReplica]]:
        """The one with the fewest calls; among equals, the one that was not chosen for longest."""
        if not candidate_replicas:
            return []
        best = min(candidate_replicas, key=lambda one: self._load(one.replica_id))
        self._chosen[best.replica_id] = next(self._number)
        return [[best]]

    def _load(self, replica: ReplicaID) -> tuple[int, int]:
        return self._calls[replica], self._chosen.get(replica, -1)

    def on_send_request(self, replica_id: ReplicaID) -> None:
        """Serve has sent a call."""
        super().on_send_request(replica_id)
        self._calls[replica_id] += 1

    def on_request_completed(self, replica_id: ReplicaID, internal_request_id: str) -> None:
        """Serve has an answer or an error."""
        if self._calls[replica_id] > 0:
            self._calls[replica_id] -= 1

    def update_replicas(self, replicas: list[RunningReplica]) -> None:
        """Serve has started or ended replicas."""
        super().update_replicas(replicas)
        for gone in self._chosen.keys() - self.curr_replicas.keys():
            del self._chosen[gone], self._calls[gone]
