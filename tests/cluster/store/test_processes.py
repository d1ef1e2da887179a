"""Several processes share a store, and some of them are killed."""

import asyncio
import json
import subprocess

import pytest

from cluster.store.idempotency import Done, Fresh
from cluster.store.jobs import Lease
from cluster.store.store import Store
from tests.cluster.store.conftest import Place
from tests.cluster.store.programs import start
from tests.cluster.store.server import Server

pytestmark = pytest.mark.slow

ENOUGH = 40  # acknowledged jobs before the kill


def killed_after(process: subprocess.Popen[str], lines: int) -> list[str]:
    """What a process said until it was killed in the middle of its work."""
    assert process.stdout is not None
    said = [process.stdout.readline() for _ in range(lines)]
    process.kill()
    rest, _ = process.communicate()
    return [line for line in "".join([*said, rest]).splitlines() if line]


async def every_job(store: Store) -> list[str]:
    ids, cursor = [], None
    while True:
        page = await store.jobs.page("ada", cursor=cursor, limit=1000)
        ids += [job.id for job in page.items]
        if (cursor := page.next_cursor) is None:
            return ids


async def take(store: Store) -> Lease:
    async with asyncio.timeout(30):
        while (lease := await store.jobs.take(lease_s=1000.0)) is None:
            await asyncio.sleep(0.05)
    return lease


async def test_what_a_killed_process_acknowledged_is_there_once(place: Place) -> None:
    acknowledged = dict(line.split(" ") for line in killed_after(start("accept_jobs", *_where(place)), ENOUGH))
    assert len(acknowledged) >= ENOUGH
    store = await place.open()
    ids = await every_job(store)
    assert len(ids) == len(set(ids)) == await store.jobs.unfinished()
    assert set(acknowledged.values()) <= set(ids)
    for key, job_id in acknowledged.items():
        answer = await store.idempotency.begin("ada", key, key, lease_s=1000.0)
        assert isinstance(answer, Done) and answer.answer.body.decode() == job_id
    requests = set()
    while lease := await store.jobs.take(lease_s=1000.0):
        assert [json.loads(event.data)["state"] for event in await store.jobs.events(lease.job.id)] == [
            "queued", "running",
        ]  # fmt: skip
        requests.add(lease.request.decode())
    assert len(requests) == len(ids)
    await store.close()


async def test_two_processes_do_each_job_once(place: Place) -> None:
    store = await place.open()
    jobs = await asyncio.gather(*(store.jobs.create(owner="ada", request=b"%d" % n) for n in range(60)))
    workers = [start("work", *_where(place)) for _ in range(2)]
    done = [(await asyncio.to_thread(worker.communicate))[0].split() for worker in workers]
    assert sorted(done[0] + done[1]) == sorted(job.id for job in jobs)
    for number, job in enumerate(jobs):
        ended = await store.jobs.get(job.id)
        assert ended is not None and (ended.state, ended.attempt, ended.last_event) == ("succeeded", 1, 4)
        assert await store.jobs.result(job.id) == b"%d" % number
    await store.close()


async def test_the_job_of_a_killed_process_is_done_by_another(place: Place) -> None:
    store = await place.open()
    job = await store.jobs.create(owner="ada", request=b"{}")
    process = start("hold", *_where(place))
    assert await asyncio.to_thread(killed_after, process, 1) == [job.id]
    lease = await take(store)
    assert (lease.job.id, lease.job.attempt) == (job.id, 2)
    assert (await store.jobs.finish(lease, "succeeded", b"{}")).state == "succeeded"
    await store.close()


async def test_a_killed_redis_server_comes_back_with_what_was_acknowledged() -> None:
    server = Server("--appendonly", "yes", "--appendfsync", "always")
    try:
        place = Place(server.url, "p")
        store = await place.open()
        jobs = await asyncio.gather(*(store.jobs.create(owner="ada", request=b"{}") for _ in range(100)))
        server.kill()
        server.restart()
        assert sorted(await every_job(store)) == sorted(job.id for job in jobs)
        assert isinstance(await store.idempotency.begin("ada", "k", "b", lease_s=1.0), Fresh)
        await store.close()
    finally:
        server.close()


def _where(place: Place) -> tuple[str, str]:
    return place.address, place.prefix
