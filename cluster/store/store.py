"""All that the scoring service has to remember, behind one door."""

from __future__ import annotations

from cluster.store.files import Files
from cluster.store.idempotency import Idempotency
from cluster.store.jobs import Jobs
from cluster.store.keys import Keys
from cluster.store.records import Records


class Store:
    """Keys, jobs, answers to repeated requests, files. Every method ends within the store's deadline.

    Raises, wherever it is asked: StoreUnavailableError when the backend fails or is too slow.
    """

    def __init__(self, records: Records) -> None:
        self._records = records
        self.keys = Keys(records)
        self.jobs = Jobs(records)
        self.idempotency = Idempotency(records)
        self.files = Files(records)

    async def ping(self) -> None:
        """Returns when the backend answers."""
        await self._records.ping()

    async def close(self) -> None:
        """Finishes what was begun and lets go. Further calls fail."""
        await self._records.close()
