"""Whatever is done to jobs in whatever order, by however many workers: their states only move forward."""

import asyncio
import json
import uuid
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from cluster.errors import LeaseLostError
from cluster.store.jobs import Lease
from cluster.store.open import open_store
from tests.cluster.store.conftest import ManualClock
from tests.cluster.store.server import Server

LEASE_S = 10.0
ORDER = {"queued": 0, "running": 1, "succeeded": 2, "failed": 2, "canceled": 2}


class JobStates(RuleBasedStateMachine):
    """The model: for each job its state, and the one lease that is good."""

    address = ""

    def __init__(self) -> None:
        super().__init__()
        self._folder = TemporaryDirectory()
        self._runner = asyncio.Runner()
        self._clock = ManualClock()
        address = self.address or Path(self._folder.name) / "store"
        prefix = uuid.uuid4().hex
        self._stores = [self.do(open_store(address, prefix=prefix, clock=self._clock)) for _ in range(2)]
        self._states: dict[str, str] = {}
        self._good: dict[str, Lease] = {}
        self._leases: list[Lease] = []
        self._due: dict[str, float] = {}

    def do(self, awaitable: Any) -> Any:
        return self._runner.run(awaitable)

    def teardown(self) -> None:
        for store in self._stores:
            self.do(store.close())
        self._runner.close()
        self._folder.cleanup()

    @rule(which=st.integers(0, 1))
    def create(self, which: int) -> None:
        job = self.do(self._stores[which].jobs.create(owner="ada", request=b"{}"))
        self._states[job.id], self._due[job.id] = "queued", self._clock.now

    @rule(which=st.integers(0, 1))
    def take(self, which: int) -> None:
        lease = self.do(self._stores[which].jobs.take(lease_s=LEASE_S))
        due = {job_id for job_id, at in self._due.items() if at <= self._clock.now}
        if lease is None:
            assert not due
            return
        assert lease.job.id in due
        self._states[lease.job.id], self._good[lease.job.id] = "running", lease
        self._due[lease.job.id] = self._clock.now + LEASE_S
        self._leases.append(lease)

    @rule(which=st.integers(0, 1), lease=st.integers(0, 99), outcome=st.sampled_from(["succeeded", "failed"]))
    def finish(self, which: int, lease: int, outcome: Any) -> None:
        if not self._leases:
            return
        held = self._leases[lease % len(self._leases)]
        is_good = self._good.get(held.job.id) is held
        is_repetition = is_good and self._states[held.job.id] == outcome
        try:
            self.do(self._stores[which].jobs.finish(held, outcome, b"{}"))
        except LeaseLostError:
            assert not is_good or ORDER[self._states[held.job.id]] == 2
        else:
            assert is_repetition or (is_good and self._states[held.job.id] == "running")
            self._states[held.job.id] = outcome
            self._due.pop(held.job.id, None)

    @rule(which=st.integers(0, 1), lease=st.integers(0, 99))
    def renew(self, which: int, lease: int) -> None:
        if not self._leases:
            return
        held = self._leases[lease % len(self._leases)]
        is_good = self._good.get(held.job.id) is held and self._states[held.job.id] == "running"
        try:
            self.do(self._stores[which].jobs.renew(held, lease_s=LEASE_S))
        except LeaseLostError:
            assert not is_good
        else:
            assert is_good
            self._due[held.job.id] = self._clock.now + LEASE_S

    @rule(which=st.integers(0, 1), job=st.integers(0, 99))
    def cancel(self, which: int, job: int) -> None:
        if not self._states:
            return
        job_id = list(self._states)[job % len(self._states)]
        answer = self.do(self._stores[which].jobs.cancel(job_id))
        if ORDER[self._states[job_id]] < 2:
            self._states[job_id] = "canceled"
            self._due.pop(job_id)
        assert answer.state == self._states[job_id]

    @rule(seconds=st.sampled_from([1.0, LEASE_S]))
    def wait(self, seconds: float) -> None:
        self._clock.advance(seconds)

    @invariant()
    def the_store_agrees_and_nothing_went_back(self) -> None:
        store = self._stores[0]
        for job_id, state in self._states.items():
            assert self.do(store.jobs.get(job_id)).state == state
            events = self.do(store.jobs.events(job_id))
            order = [ORDER[json.loads(event.data)["state"]] for event in events]
            assert order == sorted(order) and order.count(2) <= 1 and order[-1] == ORDER[state]
        assert self.do(store.jobs.unfinished()) == len(self._due)


@pytest.mark.parametrize("backend", ["sqlite", "redis"])
def test_states_only_move_forward(backend: str, server: Server) -> None:
    class Machine(JobStates):
        address = server.url if backend == "redis" else ""

    run_state_machine_as_test(Machine, settings=settings(max_examples=6, stateful_step_count=25, deadline=None))
