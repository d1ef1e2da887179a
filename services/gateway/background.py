"""What a server does beside answering: jobs, and clearing away what is over."""

from __future__ import annotations

import asyncio
import logging

from cluster.errors import StoreUnavailableError
from services.gateway.files_sweep import sweep_files
from services.gateway.job_attempt import Pace, Work
from services.gateway.job_worker import JobWorker
from services.gateway.jobs_files import let_go
from services.gateway.state import Gateway

SWEEP_S = 3600.0
_SWEEP_RETRY_S = 60.0

_log = logging.getLogger(__name__)


class GatewayTasks:
    """`start` once the app can answer; `stop` before what the gateway consists of is closed."""

    def __init__(self, gateway: Gateway, work: Work, *, pace: Pace | None = None) -> None:
        limits = gateway.config.limits
        self._gateway = gateway
        self.worker = JobWorker(
            gateway.store.jobs, gateway.desk, work, at_a_time=limits.jobs_at_a_time, job_s=limits.job_s,
            released=self._released, pace=pace,
        )  # fmt: skip
        self._sweeping: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begins. Jobs that a former server left are taken as soon as their leases are over."""
        self.worker.start()
        self._sweeping = asyncio.create_task(self._sweep(), name="sweep")

    async def stop(self, drain_s: float) -> None:
        """Ends whoever waits for a job, gives running jobs some time, and hands the others back."""
        self._gateway.desk.close()
        if self._sweeping is not None:
            self._sweeping.cancel()
            await asyncio.wait([self._sweeping])
        await self.worker.stop(drain_s=drain_s)

    async def _released(self, job_id: str) -> None:
        await let_go(self._gateway.shelf, self._gateway.store.files, job_id)

    async def _sweep(self) -> None:
        while True:
            try:
                await sweep(self._gateway)
                await asyncio.sleep(SWEEP_S)
            except StoreUnavailableError:
                await asyncio.sleep(_SWEEP_RETRY_S)
            except Exception:  # what is left over is cleared away next time
                _log.exception("clearing away what is over failed")
                await asyncio.sleep(_SWEEP_RETRY_S)


async def sweep(gateway: Gateway) -> None:
    """Clears away jobs that ended long ago, answers that are kept no longer, files that nobody has."""
    await gateway.store.jobs.purge(older_than_s=gateway.config.limits.jobs_kept_s)
    await gateway.store.idempotency.purge()
    await sweep_files(gateway)
