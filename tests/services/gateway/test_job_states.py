"""Whatever callers, workers, clocks and restarts do in whatever order: a job is there once, and only moves forward."""

import asyncio
import json
import uuid
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx2
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from cluster.store.jobs import Lease
from cluster.store.keys import new_key
from cluster.store.open import open_store
from services.gateway.app import create_app
from services.gateway.background import sweep
from services.gateway.state import Gateway
from services.media.files import ContentFolder
from services.media.guard import MediaGuard
from services.serve_config import ServeConfig
from tests.cluster.store.conftest import ManualClock
from tests.cluster.store.server import Server
from tests.services.in_process_model import InProcessModels

LEASE_S, KEPT_S = 10.0, 1000.0
ORDER = {"queued": 0, "running": 1, "succeeded": 2, "failed": 2, "canceled": 2}
REQUEST = {"items": [{"prompt": "a red circle", "video": {"file_id": "0" * 64}}]}
OWNERS = ("ada", "bob")


class JobStates(RuleBasedStateMachine):
    """The model: each job's owner and state, the lease that is good, and the job that an Idempotency-Key made."""

    address = ""
    models: InProcessModels

    def __init__(self) -> None:
        super().__init__()
        self._folder, self._runner, self._clock = TemporaryDirectory(), asyncio.Runner(), ManualClock()
        self._prefix = uuid.uuid4().hex
        self._tokens: dict[str, str] = {}
        self._jobs: dict[str, tuple[str, str]] = {}
        self._made: dict[tuple[str, str], str] = {}
        self._good: dict[str, Lease] = {}
        self.do(self._start())
        for owner in OWNERS:
            key = new_key()
            self.do(self._store.keys.add(key, name=owner, scopes={"score"}))
            self._tokens[owner] = key.token

    def do(self, awaitable: Any) -> Any:
        return self._runner.run(awaitable)

    async def _start(self) -> None:
        folder = Path(self._folder.name)
        self._store = await open_store(self.address or folder / "store", prefix=self._prefix, clock=self._clock)
        config, files = ServeConfig(limits={"jobs_kept_s": KEPT_S}), ContentFolder(folder / "files")
        self._gateway = Gateway(
            config=config, store=self._store, files=files, guard=MediaGuard(), models=self.models
        )  # fmt: skip
        transport = httpx2.ASGITransport(create_app(self._gateway))
        self._client = httpx2.AsyncClient(transport=transport, base_url="http://localhost")

    def teardown(self) -> None:
        self.do(self._client.aclose())
        self.do(self._store.close())
        self._runner.close()
        self._folder.cleanup()

    def ask(self, method: str, path: str, owner: str, **options: Any) -> httpx2.Response:
        headers = {"Authorization": f"Bearer {self._tokens[owner]}"} | options.pop("headers", {})
        answer: httpx2.Response = self.do(self._client.request(method, path, headers=headers, **options))
        return answer

    def _some(self, number: int) -> str:
        return list(self._jobs)[number % len(self._jobs)]

    @rule(owner=st.sampled_from(OWNERS), key=st.sampled_from(["", "k1", "k2"]))
    def create(self, owner: str, key: str) -> None:
        headers = {"Prefer": "respond-async"} | ({"Idempotency-Key": key} if key else {})
        answer = self.ask("POST", "/v1/score", owner, json=REQUEST, headers=headers)
        assert answer.status_code == 202, answer.text
        job_id = answer.json()["id"]
        if key and (owner, key) in self._made:
            assert job_id == self._made[owner, key] and answer.headers["Idempotent-Replayed"] == "true"
            return
        assert job_id not in self._jobs and "Idempotent-Replayed" not in answer.headers
        self._jobs[job_id] = (owner, "queued")
        if key:
            self._made[owner, key] = job_id

    @precondition(lambda self: self._jobs)
    @rule(number=st.integers(0, 99), asker=st.sampled_from(OWNERS))
    def cancel(self, number: int, asker: str) -> None:
        job_id = self._some(number)
        owner, state = self._jobs[job_id]
        answer = self.ask("POST", f"/v1/jobs/{job_id}/cancel", asker)
        if asker != owner:
            assert answer.status_code == 404
            return
        self._jobs[job_id] = (owner, "canceled" if ORDER[state] < 2 else state)
        assert answer.json()["state"] == self._jobs[job_id][1]

    @rule()
    def a_worker_takes(self) -> None:
        lease = self.do(self._store.jobs.take(lease_s=LEASE_S))
        if lease is not None:
            owner, state = self._jobs[lease.job.id]
            assert ORDER[state] < 2
            self._jobs[lease.job.id], self._good[lease.job.id] = (owner, "running"), lease

    @precondition(lambda self: self._good)
    @rule(number=st.integers(0, 99), outcome=st.sampled_from(["succeeded", "failed"]))
    def a_worker_finishes(self, number: int, outcome: Any) -> None:
        job_id = list(self._good)[number % len(self._good)]
        lease = self._good.pop(job_id)
        owner, state = self._jobs.get(job_id, ("", ""))
        if state == "running":
            self.do(self._store.jobs.finish(lease, outcome, json.dumps({"by": lease.job.attempt}).encode()))
            self._jobs[job_id] = (owner, outcome)

    @rule(seconds=st.sampled_from([1.0, LEASE_S]))
    def time_passes(self, seconds: float) -> None:
        self._clock.advance(seconds)

    @rule()
    def the_old_is_swept(self) -> None:
        self._clock.advance(KEPT_S + 1)
        self.do(sweep(self._gateway))
        self._jobs = {job_id: (owner, state) for job_id, (owner, state) in self._jobs.items() if ORDER[state] < 2}

    @rule()
    def the_server_restarts(self) -> None:
        self.do(self._client.aclose())
        self.do(self._store.close())
        self.do(self._start())

    @invariant()
    def callers_see_their_jobs_as_they_are(self) -> None:
        for owner in OWNERS:
            mine = [job_id for job_id, (of, _) in self._jobs.items() if of == owner]
            listed = self.ask("GET", "/v1/jobs", owner, params={"limit": 200}).json()["data"]
            assert {job["id"]: job["state"] for job in listed} == {job_id: self._jobs[job_id][1] for job_id in mine}

    @precondition(lambda self: self._jobs)
    @rule(number=st.integers(0, 99), asker=st.sampled_from(OWNERS))
    def look(self, number: int, asker: str) -> None:
        job_id = self._some(number)
        owner, state = self._jobs[job_id]
        answer = self.ask("GET", f"/v1/jobs/{job_id}", asker)
        if asker != owner:
            assert answer.status_code == 404
            return
        job = answer.json()
        assert job["state"] == state and (job["ended_at"] is not None) == (ORDER[state] == 2)
        assert (job["result"] is not None, job["error"] is not None) == (state == "succeeded", state == "failed")
        result = self.ask("GET", f"/v1/jobs/{job_id}/result", owner)
        assert result.status_code == (200 if state == "succeeded" else 409)
        if ORDER[state] == 2:
            text = self.ask("GET", f"/v1/jobs/{job_id}/events", owner).text
            order = [ORDER[json.loads(line[6:])["state"]] for line in text.splitlines() if line.startswith("data: ")]
            assert order == sorted(order) and order.count(2) == 1


@pytest.mark.parametrize("backend", ["sqlite", "redis"])
def test_jobs_only_move_forward(backend: str, server: Server, shapes: InProcessModels) -> None:
    class Machine(JobStates):
        address = server.url if backend == "redis" else ""
        models = shapes

    run_state_machine_as_test(Machine, settings=settings(max_examples=8, stateful_step_count=25, deadline=None))
