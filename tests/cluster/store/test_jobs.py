import asyncio
import json

import pytest

from cluster.errors import LeaseLostError
from cluster.store.jobs import Job, Lease
from cluster.store.store import Store
from policies.errors import InputError
from tests.cluster.store.conftest import ManualClock, Place

LEASE_S = 10.0


async def taken(store: Store) -> Lease:
    lease = await store.jobs.take(lease_s=LEASE_S)
    assert lease is not None
    return lease


async def states(store: Store, job: Job) -> list[str]:
    return [json.loads(event.data)["state"] for event in await store.jobs.events(job.id)]


async def test_a_job_goes_from_queued_over_running_to_its_result(
    store: Store, other: Store, clock: ManualClock
) -> None:
    job = await store.jobs.create(owner="ada", request=b'{"items": []}')
    assert (job.state, job.owner, job.created_at, job.attempt) == ("queued", "ada", clock.now, 0)
    lease = await taken(other)
    assert (lease.job.id, lease.request, lease.job.attempt) == (job.id, b'{"items": []}', 1)
    running = await store.jobs.get(job.id)
    assert running is not None and running.state == "running" and await store.jobs.result(job.id) is None
    clock.advance(1)
    ended = await other.jobs.finish(lease, "succeeded", b'{"scores": [1.5]}')
    assert (ended.state, ended.ended_at, ended.has_ended) == ("succeeded", clock.now, True)
    assert await store.jobs.get(job.id) == ended
    assert await store.jobs.result(job.id) == b'{"scores": [1.5]}'
    assert await states(store, job) == ["queued", "running", "succeeded"]


async def test_jobs_are_taken_in_the_order_of_their_creation(store: Store, clock: ManualClock) -> None:
    jobs = []
    for _ in range(5):
        jobs.append(await store.jobs.create(owner="ada", request=b"{}"))
        clock.advance(0.001)
    assert [(await taken(store)).job.id for _ in jobs] == [job.id for job in jobs]
    assert await store.jobs.take(lease_s=LEASE_S) is None


async def test_a_queued_job_knows_how_many_are_due_before_it(store: Store, clock: ManualClock) -> None:
    jobs = []
    for owner in ["ada", "bob", "ada"]:
        jobs.append(await store.jobs.create(owner=owner, request=b"{}"))
        clock.advance(0.001)
    assert [await store.jobs.ahead_of(job) for job in jobs] == [0, 1, 2]
    assert await store.jobs.ahead_of(jobs[2], at_most=1) == 1
    lease = await taken(store)
    assert (lease.job.id, lease.job.started_at) == (jobs[0].id, clock.now)
    assert await store.jobs.ahead_of(jobs[1]) == 0


async def test_owners_can_be_skipped(store: Store, clock: ManualClock) -> None:
    for owner in [*["greedy"] * 70, "ada"]:
        await store.jobs.create(owner=owner, request=b"{}")
        clock.advance(0.001)
    lease = await store.jobs.take(lease_s=LEASE_S, skip_owners={"greedy"})
    assert lease is not None and lease.job.owner == "ada"
    assert await store.jobs.take(lease_s=LEASE_S, skip_owners={"greedy", "ada"}) is None


async def test_many_workers_take_each_job_once(store: Store, other: Store) -> None:
    jobs = await asyncio.gather(*(store.jobs.create(owner="ada", request=b"{}") for _ in range(40)))

    async def work(worker: Store) -> list[str]:
        ids = []
        while lease := await worker.jobs.take(lease_s=1000.0):
            ids.append(lease.job.id)
            await worker.jobs.finish(lease, "succeeded", b"{}")
        return ids

    done = await asyncio.gather(*(work(worker) for worker in [store, other] * 4))
    assert sorted(job_id for ids in done for job_id in ids) == sorted(job.id for job in jobs)


async def test_a_dead_workers_job_is_taken_again_once_and_the_dead_one_cannot_write(
    store: Store, other: Store, clock: ManualClock
) -> None:
    job = await store.jobs.create(owner="ada", request=b"{}")
    stale = await taken(store)
    clock.advance(LEASE_S - 0.001)
    assert await other.jobs.take(lease_s=LEASE_S) is None
    clock.advance(0.001)
    leases = await asyncio.gather(*(each.jobs.take(lease_s=LEASE_S) for each in [store, other] * 5))
    (lease,) = [each for each in leases if each is not None]
    assert (lease.job.id, lease.job.attempt) == (job.id, 2)
    for call in (
        store.jobs.finish(stale, "succeeded", b"stale"), store.jobs.append(stale, b"{}"),
        store.jobs.renew(stale, lease_s=LEASE_S), store.jobs.hand_back(stale),
    ):  # fmt: skip
        with pytest.raises(LeaseLostError, match="is running at attempt 2; the lease was for attempt 1"):
            await call
    await other.jobs.finish(lease, "succeeded", b"fresh")
    assert await store.jobs.result(job.id) == b"fresh"
    assert await states(store, job) == ["queued", "running", "running", "succeeded"]


async def test_a_renewed_lease_lasts(store: Store, clock: ManualClock) -> None:
    await store.jobs.create(owner="ada", request=b"{}")
    lease = await taken(store)
    for _ in range(3):
        clock.advance(LEASE_S - 1)
        await store.jobs.renew(lease, lease_s=LEASE_S)
        assert await store.jobs.take(lease_s=LEASE_S) is None
    clock.advance(LEASE_S)
    assert (await taken(store)).job.attempt == 2


async def test_a_job_that_is_handed_back_is_due_at_once(store: Store) -> None:
    await store.jobs.create(owner="ada", request=b"{}")
    await store.jobs.hand_back(await taken(store))
    assert (await taken(store)).job.attempt == 2


async def test_finishing_twice_is_finishing_once(store: Store) -> None:
    job = await store.jobs.create(owner="ada", request=b"{}")
    lease = await taken(store)
    first = await store.jobs.finish(lease, "failed", b"1")
    assert await store.jobs.finish(lease, "failed", b"2") == first
    assert await store.jobs.result(job.id) == b"1"
    with pytest.raises(LeaseLostError, match="is failed"):
        await store.jobs.finish(lease, "succeeded", b"3")
    with pytest.raises(InputError, match="succeeded or failed"):
        await store.jobs.finish(lease, "running", b"3")  # type: ignore[arg-type]


async def test_a_canceled_job_is_not_taken(store: Store) -> None:
    job = await store.jobs.create(owner="ada", request=b"{}")
    canceled = await store.jobs.cancel(job.id)
    assert canceled is not None and canceled.state == "canceled" and canceled.has_ended
    assert await store.jobs.take(lease_s=LEASE_S) is None
    assert await store.jobs.cancel(job.id) == canceled
    assert await states(store, job) == ["queued", "canceled"]


async def test_canceling_a_running_job_stops_its_worker(store: Store, other: Store) -> None:
    job = await store.jobs.create(owner="ada", request=b"{}")
    lease = await taken(other)
    await store.jobs.cancel(job.id)
    with pytest.raises(LeaseLostError, match="is canceled"):
        await other.jobs.finish(lease, "succeeded", b"{}")
    assert await store.jobs.result(job.id) is None


async def test_canceling_what_has_ended_or_never_was_changes_nothing(store: Store) -> None:
    await store.jobs.create(owner="ada", request=b"{}")
    ended = await store.jobs.finish(await taken(store), "succeeded", b"{}")
    assert await store.jobs.cancel(ended.id) == ended
    assert await store.jobs.cancel("0" * 32) is None


async def test_cancel_and_finish_at_once_have_one_winner(store: Store, other: Store) -> None:
    for _ in range(10):
        job = await store.jobs.create(owner="ada", request=b"{}")
        lease = await taken(store)
        finished, canceled = await asyncio.gather(
            other.jobs.finish(lease, "succeeded", b"{}"), store.jobs.cancel(job.id), return_exceptions=True
        )
        assert isinstance(canceled, Job)
        assert isinstance(finished, LeaseLostError) == (canceled.state == "canceled")
        assert (await states(store, job))[2:] == [canceled.state]


async def test_events_are_read_on_from_any_id(store: Store, other: Store) -> None:
    job = await store.jobs.create(owner="ada", request=b"{}")
    lease = await taken(store)
    assert [await store.jobs.append(lease, b'{"done": %d}' % number) for number in range(4)] == [3, 4, 5, 6]
    assert [event.id for event in await other.jobs.events(job.id)] == [1, 2, 3, 4, 5, 6]
    assert [(event.id, event.data) for event in await other.jobs.events(job.id, after=4)] == [
        (5, b'{"done": 2}'), (6, b'{"done": 3}'),
    ]  # fmt: skip
    assert [event.id for event in await other.jobs.events(job.id, after=1, limit=2)] == [2, 3]
    assert await other.jobs.events(job.id, after=6) == [] == await other.jobs.events("0" * 32)


async def test_events_written_at_once_have_ids_of_their_own(store: Store, other: Store) -> None:
    job = await store.jobs.create(owner="ada", request=b"{}")
    lease = await taken(store)
    ids = await asyncio.gather(*(each.jobs.append(lease, b"{}") for each in [store, other] * 10))
    assert sorted(ids) == list(range(3, 23))
    assert len(await store.jobs.events(job.id)) == 22


async def test_creating_with_the_same_id_gives_the_same_job(store: Store, other: Store) -> None:
    ids = await asyncio.gather(
        *(each.jobs.create(owner="ada", request=b"{}", job_id="a" * 32) for each in [store, other] * 5)
    )
    assert {job.id for job in ids} == {"a" * 32}
    assert len((await store.jobs.page("ada")).items) == 1 == await store.jobs.unfinished()
    with pytest.raises(InputError, match="is taken"):
        await store.jobs.create(owner="bob", request=b"{}", job_id="a" * 32)


async def test_jobs_that_ended_long_ago_are_forgotten(store: Store, clock: ManualClock) -> None:
    old = await store.jobs.create(owner="ada", request=b"{}")
    await store.jobs.finish(await taken(store), "succeeded", b"{}")
    clock.advance(50)
    recent = await store.jobs.create(owner="ada", request=b"{}")
    await store.jobs.cancel(recent.id)
    queued = await store.jobs.create(owner="ada", request=b"{}")
    clock.advance(50)
    assert await store.jobs.purge(older_than_s=60) == 1
    assert await store.jobs.purge(older_than_s=60) == 0
    assert await store.jobs.get(old.id) is None and await store.jobs.result(old.id) is None
    assert await store.jobs.events(old.id) == []
    assert {job.id for job in (await store.jobs.page("ada")).items} == {recent.id, queued.id}
    assert await store.jobs.purge(older_than_s=0) == 1
    assert await store.jobs.unfinished() == 1


async def test_a_purged_job_leaves_no_record(store: Store, place: Place) -> None:
    job = await store.jobs.create(owner="ada", request=b"{}")
    lease = await taken(store)
    await store.jobs.append(lease, b"{}")
    await store.jobs.renew(lease, lease_s=LEASE_S)
    await store.jobs.finish(lease, "succeeded", b"{}")
    await store.jobs.purge(older_than_s=0)
    records = store.jobs._records
    keys = [f"jobs/{job.id}{rest}" for rest in ("", "/request", "/result", *(f"/events/{n}" for n in range(1, 6)))]
    assert await records.read(keys) == [None] * len(keys)
    assert [await records.count(index) for index in ("jobs/due", "jobs/ended", "jobs/of/ada")] == [0, 0, 0]


async def test_the_clock_of_the_store_itself_serves_leases(place: Place) -> None:
    store = await place.open()
    await store.jobs.create(owner="ada", request=b"{}")
    assert (await store.jobs.take(lease_s=0.05)) is not None
    await asyncio.sleep(0.06)
    assert (await taken(store)).job.attempt == 2
    await store.close()
