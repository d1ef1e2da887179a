"""All that has to be remembered, behind one door."""

from __future__ import annotations

from cluster.store.events import Events
from cluster.store.files import Files
from cluster.store.idempotency import Idempotency
from cluster.store.jobs import Jobs
from cluster.store.keys import Keys
from cluster.store.metrics import Metrics
from cluster.store.pairs import Pairs
from cluster.store.records import Records
from cluster.store.runs import Runs
from cluster.store.samples import Samples


class Store:
    """Keys, jobs, answers to repeated requests, files; runs with their curves, events, pairs and samples.

    Every method ends within the store's deadline, or makes several calls that each do.

    Raises, wherever it is asked: StoreUnavailableError when the backend fails or is too slow.
    """

    def __init__(self, records: Records) -> None:
        self._records = records
        self.keys = Keys(records)
        self.jobs = Jobs(records)
        self.idempotency = Idempotency(records)
        self.files = Files(records)
        self.runs = Runs(records)
        self.metrics = Metrics(records)
        self.events = Events(records)
        self.pairs = Pairs(records)
        self.samples = Samples(records)

    async def ping(self) -> None:
        """Returns when the backend answers."""
        await self._records.ping()

    async def now(self) -> float:
        """The time by which everything here is stamped."""
        return await self._records.now()

    async def close(self) -> None:
        """Finishes what was begun and lets go. Further calls fail."""
        await self._records.close()
