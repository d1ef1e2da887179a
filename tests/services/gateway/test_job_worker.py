"""Workers over stores of both kinds. The store's clock is set by hand; the workers' own pace is milliseconds."""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from cluster.errors import StoreUnavailableError
from cluster.store.job_record import Job
from cluster.store.jobs import Lease
from cluster.store.open import open_store
from cluster.store.store import Store
from services.gateway.job_attempt import MOST_ATTEMPTS, Pace, Progress
from services.gateway.job_worker import JobWorker
from services.gateway.jobs_desk import JobsDesk
from services.gateway.problem_kinds import MODEL_NOT_FOUND
from services.gateway.problems import Problem
from tests.cluster.store.conftest import ManualClock

FAST = Pace(lease_s=10.0, renew_s=0.02, look_s=0.02, longest_backoff_s=0.05, progress_s=0.01, grace_s=0.05)
LIMIT_S = 20.0


@pytest.fixture(params=["sqlite", "redis"])
async def store(request: pytest.FixtureRequest, tmp_path: Path, clock: ManualClock) -> AsyncIterator[Store]:
    address = request.getfixturevalue("server").url if request.param == "redis" else str(tmp_path / "store")
    opened = await open_store(address, prefix=uuid.uuid4().hex, clock=clock)
    yield opened
    await opened.close()


class Bench:
    """The work: what was begun and by whom it was ended. `hold` keeps jobs of an owner running."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.owners: list[str] = []
        self.canceled: list[str] = []
        self.hold: dict[str, asyncio.Event] = {}
        self.errors: list[Exception] = []
        self.deadlines: list[float] = []

    async def __call__(self, lease: Lease, *, deadline: float, progress: Callable[[Progress], None]) -> bytes:
        self.begun.append(lease.job.id)
        self.owners.append(lease.job.owner)
        self.deadlines.append(deadline)
        try:
            for done in range(1, 4):
                progress(Progress(done, 0, 3))
                if done == 2 and lease.job.owner in self.hold:
                    await self.hold[lease.job.owner].wait()
            if self.errors:
                raise self.errors.pop(0)
        except asyncio.CancelledError:
            self.canceled.append(lease.job.id)
            raise
        return json.dumps({"attempt": lease.job.attempt}).encode()


class Site:
    """One server's worker."""

    def __init__(self, store: Store, bench: Bench, **options: Any) -> None:
        self.desk, self.released = JobsDesk(), list[str]()
        settings = {"at_a_time": 2, "job_s": 60.0, "pace": FAST} | options
        self.worker = JobWorker(store.jobs, self.desk, bench, released=self._released, **settings)

    async def _released(self, job_id: str) -> None:
        self.released.append(job_id)

    async def __aenter__(self) -> "Site":
        self.worker.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.worker.stop(drain_s=0)


async def create(store: Store, owner: str = "ada") -> Job:
    return await store.jobs.create(owner=owner, request=b"{}")


async def ended(store: Store, job: Job) -> Job:
    async with asyncio.timeout(LIMIT_S):
        while True:
            found = await store.jobs.get(job.id)
            assert found is not None
            if found.has_ended:
                return found
            await asyncio.sleep(0.01)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(LIMIT_S):
        while not condition():
            await asyncio.sleep(0.005)


async def events(store: Store, job: Job) -> list[dict[str, Any]]:
    return [json.loads(event.data) for event in await store.jobs.events(job.id)]


async def test_a_job_is_done_and_its_result_kept(store: Store) -> None:
    job = await create(store)
    async with Site(store, Bench()) as site:
        assert (await ended(store, job)).state == "succeeded"
        await until(lambda: site.released == [job.id])
    assert await store.jobs.result(job.id) == b'{"attempt": 1}'
    assert {"done": 3, "failed": 0, "total": 3, "attempt": 1} in await events(store, job)


async def test_many_jobs_on_two_servers_are_each_done_once(store: Store) -> None:
    bench = Bench()
    jobs = [await create(store, owner) for owner in "abc" * 5]
    async with Site(store, bench), Site(store, bench):
        assert {(await ended(store, job)).state for job in jobs} == {"succeeded"}
    assert sorted(bench.begun) == sorted(job.id for job in jobs)


async def test_callers_take_turns_however_many_jobs_one_of_them_has(store: Store, clock: ManualClock) -> None:
    bench = Bench()
    jobs = []
    for owner in ["greedy"] * 5 + ["hasty"] * 5 + ["ada", "bob"]:
        jobs.append(await create(store, owner))
        clock.advance(0.001)
    async with Site(store, bench, at_a_time=1):
        for job in jobs:
            await ended(store, job)
    assert bench.owners[:4] == ["greedy", "hasty", "ada", "bob"]
    assert sorted(bench.owners[4:6]) == ["greedy", "hasty"]


async def test_a_caller_with_a_long_job_does_not_take_the_other_places(store: Store, clock: ManualClock) -> None:
    bench = Bench()
    bench.hold = {"greedy": asyncio.Event()}
    for _ in range(3):
        await create(store, "greedy")
        clock.advance(0.001)
    small = await create(store, "ada")
    async with Site(store, bench):
        assert (await ended(store, small)).state == "succeeded"


async def test_a_lease_is_renewed_while_the_work_goes_on(
    store: Store, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench, other, renewals = Bench(), Bench(), list[float]()
    renew = store.jobs.renew

    async def counted(*args: Any, **kwargs: Any) -> None:
        await renew(*args, **kwargs)
        renewals.append(clock.now)

    monkeypatch.setattr(store.jobs, "renew", counted)
    bench.hold = {"ada": asyncio.Event()}
    job = await create(store)
    async with Site(store, bench):
        await until(lambda: bench.begun)
        async with Site(store, other):
            for _ in range(6):
                clock.advance(5)
                so_far = len(renewals)
                await until(lambda: len(renewals) > so_far + 1)  # noqa: B023
            bench.hold["ada"].set()
            assert (await ended(store, job)).attempt == 1
    assert not other.begun


async def test_a_dead_servers_job_is_done_by_another_one_once(store: Store, clock: ManualClock) -> None:
    """The dead server here is one that took a job and was never heard of again."""
    job, bench = await create(store), Bench()
    dead = await store.jobs.take(lease_s=10.0)
    assert dead is not None
    async with Site(store, bench):
        await asyncio.sleep(0.05)
        assert not bench.begun
        clock.advance(10)
        assert (await ended(store, job)).attempt == 2
    assert bench.begun == [job.id]


async def test_a_server_that_wakes_up_late_writes_nothing(store: Store, clock: ManualClock) -> None:
    late, bench = Bench(), Bench()
    late.hold = {"ada": asyncio.Event()}
    job = await create(store)
    async with Site(store, late, at_a_time=1, pace=Pace(renew_s=1000, look_s=0.02, progress_s=0.01)):
        await until(lambda: late.begun)
        clock.advance(11)
        async with Site(store, bench):
            assert (await ended(store, job)).attempt == 2
        late.hold["ada"].set()
        await asyncio.sleep(0.05)
    assert await store.jobs.result(job.id) == b'{"attempt": 2}'
    assert [event["state"] for event in await events(store, job) if "state" in event][-1] == "succeeded"


async def test_a_server_may_take_the_job_that_it_lost_itself(store: Store, clock: ManualClock) -> None:
    bench = Bench()
    bench.hold = {"ada": asyncio.Event()}
    job = await create(store)
    async with Site(store, bench, at_a_time=2, pace=Pace(renew_s=1000, look_s=0.02, progress_s=0.01)):
        await until(lambda: bench.begun)
        clock.advance(11)
        await until(lambda: len(bench.begun) == 2)
        bench.hold["ada"].set()
        assert (await ended(store, job)).attempt == 2
    assert await store.jobs.result(job.id) == b'{"attempt": 2}'


async def test_canceling_ends_the_work_here_at_once(store: Store) -> None:
    bench = Bench()
    bench.hold = {"ada": asyncio.Event()}
    job = await create(store)
    async with Site(store, bench, pace=Pace(renew_s=1000, progress_s=1000)) as site:
        await until(lambda: bench.begun)
        await store.jobs.cancel(job.id)
        site.desk.stop(job.id)
        await until(lambda: bench.canceled == [job.id] and site.released == [job.id])
        assert site.worker.running == 0
    assert (await ended(store, job)).state == "canceled" and await store.jobs.result(job.id) is None


async def test_canceling_ends_the_work_of_another_server_with_its_next_renewal(store: Store) -> None:
    bench = Bench()
    bench.hold = {"ada": asyncio.Event()}
    job = await create(store)
    async with Site(store, bench):
        await until(lambda: bench.begun)
        await store.jobs.cancel(job.id)
        await until(lambda: bench.canceled == [job.id])
    assert [event["state"] for event in await events(store, job) if "state" in event][-1] == "canceled"


async def test_a_server_that_stops_lets_short_jobs_finish_and_hands_long_ones_back(store: Store) -> None:
    bench = Bench()
    bench.hold = {"long": asyncio.Event(), "short": asyncio.Event()}
    long, short, later = [await create(store, owner) for owner in ("long", "short", "later")]
    site = Site(store, bench)
    async with site:
        await until(lambda: len(bench.begun) == 2)
        stopping = asyncio.create_task(site.worker.stop(drain_s=0.3))
        bench.hold["short"].set()
        await stopping
    assert (await ended(store, short)).state == "succeeded" and bench.canceled == [long.id]
    assert later.id not in bench.begun
    bench.hold.clear()
    async with Site(store, bench):  # at once: no lease has to end first
        assert (await ended(store, long)).attempt == 2
        assert (await ended(store, later)).attempt == 1


async def test_a_problem_is_the_jobs_error(store: Store) -> None:
    bench = Bench()
    bench.errors = [Problem(MODEL_NOT_FOUND)]
    job = await create(store)
    async with Site(store, bench):
        assert (await ended(store, job)).state == "failed"
    error = json.loads(await store.jobs.result(job.id) or b"")
    assert (error["code"], error["request_id"]) == ("model_not_found", job.id)


async def test_an_unforeseen_error_fails_the_job_without_its_words(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    bench = Bench()
    bench.errors = [RuntimeError("/secret/path")]
    first, second = await create(store), await create(store)
    async with Site(store, bench, at_a_time=1):
        assert (await ended(store, first)).state == "failed"
        assert (await ended(store, second)).state == "succeeded"
    assert b"secret" not in (await store.jobs.result(first.id) or b"") and first.id in caplog.text


async def test_a_job_that_takes_too_long_fails(store: Store) -> None:
    bench = Bench()
    bench.hold = {"ada": asyncio.Event()}
    job = await create(store)
    async with Site(store, bench, job_s=0.05):
        assert (await ended(store, job)).state == "failed"
    assert json.loads(await store.jobs.result(job.id) or b"")["code"] == "deadline_passed"


async def test_a_job_under_which_every_server_dies_is_given_up(store: Store, clock: ManualClock) -> None:
    job, bench = await create(store), Bench()
    for _ in range(MOST_ATTEMPTS):
        await store.jobs.take(lease_s=10.0)
        clock.advance(10)
    async with Site(store, bench):
        assert (await ended(store, job)).state == "failed"
    assert json.loads(await store.jobs.result(job.id) or b"")["code"] == "job_given_up" and not bench.begun


class Outage:
    """Makes methods of the store fail for as long as it lasts, and counts how often they were tried."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, jobs: Any, *names: str) -> None:
        self.is_on, self.tries = True, 0
        for name in names:
            monkeypatch.setattr(jobs, name, self._wrapped(getattr(jobs, name)))

    def _wrapped(self, method: Any) -> Any:
        async def call(*args: Any, **kwargs: Any) -> Any:
            if self.is_on:
                self.tries += 1
                raise StoreUnavailableError("away")
            return await method(*args, **kwargs)

        return call


async def test_a_store_that_is_away_costs_time_only(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """No crash and no hurry: with the waits between its tries, a worker asks some ten times a second here."""
    outage, bench = Outage(monkeypatch, store.jobs, "take", "renew", "append", "finish", "get"), Bench()
    async with Site(store, bench):
        await asyncio.sleep(0.5)
        assert 2 <= outage.tries <= 60
        outage.is_on = False
        assert (await ended(store, await create(store))).state == "succeeded"


async def test_a_result_is_kept_once_the_store_is_back(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    outage, bench = Outage(monkeypatch, store.jobs, "renew", "append", "finish"), Bench()
    job = await create(store)
    async with Site(store, bench):
        await until(lambda: outage.tries > 5)
        outage.is_on = False
        assert (await ended(store, job)).state == "succeeded"
    assert bench.begun == [job.id]


async def test_work_that_needs_the_store_is_tried_again(store: Store) -> None:
    bench = Bench()
    bench.errors = [StoreUnavailableError("away"), StoreUnavailableError("away")]
    job = await create(store)
    async with Site(store, bench):
        assert (await ended(store, job)).attempt == 1
    assert len(bench.begun) == 3


async def test_a_job_that_arrives_here_is_begun_without_waiting(store: Store) -> None:
    bench = Bench()
    async with Site(store, bench, pace=Pace(look_s=1000)) as site:
        await asyncio.sleep(0.05)
        job = await create(store)
        site.desk.arrivals.tell()
        await ended(store, job)


def test_progress_is_told_about_a_hundred_times() -> None:
    told, last = 0, None
    for done in range(10_001):
        progress = Progress(done, 0, 10_000)
        if progress.is_news_after(last):
            told, last = told + 1, progress
    assert 90 <= told <= 110 and last == Progress(10_000, 0, 10_000)
