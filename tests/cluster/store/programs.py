"""What other processes do to a store: `python -m tests.cluster.store.programs NAME ADDRESS PREFIX`."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

from cluster.store.idempotency import Answer, Fresh
from cluster.store.open import open_store
from cluster.store.store import Store

ROOT = Path(__file__).parents[3]
WRITERS = 4


def start(name: str, address: str, prefix: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.cluster.store.programs", name, address, prefix],
        cwd=ROOT, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip


def say(line: str) -> None:
    sys.stdout.write(line + "\n")  # one write: a line is there whole or not at all
    sys.stdout.flush()


async def accept_jobs(store: Store) -> None:
    """Accepts jobs as the gateway does, for ever; says each id once the caller would have been told it."""

    async def accept(writer: int) -> None:
        number = 0
        while True:
            number += 1
            key = f"{writer}-{number}"
            begun = await store.idempotency.begin("ada", key, key, lease_s=1000.0)
            assert isinstance(begun, Fresh)
            job = await store.jobs.create(owner="ada", request=key.encode(), job_id=begun.ticket.operation_id)
            await store.idempotency.finish(begun.ticket, Answer(status=202, body=job.id.encode()))
            say(f"{key} {job.id}")

    await asyncio.gather(*map(accept, range(WRITERS)))


async def work(store: Store) -> None:
    """Does jobs until none is due; says each id that it was the one to finish."""
    while lease := await store.jobs.take(lease_s=1000.0):
        await store.jobs.append(lease, b"{}")
        await store.jobs.finish(lease, "succeeded", lease.request)
        say(lease.job.id)


async def hold(store: Store) -> None:
    """Takes a job for a second and never comes back."""
    lease = await store.jobs.take(lease_s=1.0)
    say(lease.job.id if lease else "")
    await asyncio.sleep(1000)


async def main(name: str, address: str, prefix: str) -> None:
    store = await open_store(address, prefix=prefix, deadline_s=30.0)
    await {"accept_jobs": accept_jobs, "work": work, "hold": hold}[name](store)
    await store.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
