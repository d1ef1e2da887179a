"""Files that a server left behind when it was killed: half arrived, half deleted, or had by a job that is over."""

from __future__ import annotations

import asyncio
import time

from services.gateway.jobs_files import job_of
from services.gateway.state import Gateway

LEFT_S = 3600.0
"""What is younger may be on its way."""


async def sweep_files(gateway: Gateway) -> None:
    """Puts folder and index in step again."""
    await asyncio.to_thread(gateway.files.sweep, older_than_s=LEFT_S)
    for sha256 in await asyncio.to_thread(gateway.files.aside):
        if await gateway.store.files.get(sha256) is None:
            gateway.files.remove(sha256)
        else:
            gateway.files.put_back(sha256)
    for sha256, _, age_s in await asyncio.to_thread(lambda: list(gateway.files.all())):
        if age_s > LEFT_S:
            await _look_at(gateway, sha256)


async def _look_at(gateway: Gateway, sha256: str) -> None:
    file = await gateway.store.files.get(sha256)
    if file is None:
        await gateway.shelf.tidy(sha256)
        return
    for owner, since in file.owners.items():
        job_id, age_s = job_of(owner), time.time() - int(since) / 1e6
        if job_id is None or age_s < LEFT_S:
            continue
        job = await gateway.store.jobs.get(job_id)
        if job is None or job.has_ended:
            await gateway.shelf.take_from(owner, sha256)
