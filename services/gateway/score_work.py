"""What is done for a job: its request, scored."""

from __future__ import annotations

from collections.abc import Callable

import orjson

from cluster.store.jobs import Lease
from services.gateway.checking import check_score
from services.gateway.engine import Engine, Order
from services.gateway.job_attempt import Progress
from services.gateway.jobs_files import owner_of
from services.gateway.problems import JsonObject
from services.gateway.state import Gateway


class ScoreWork:
    """A `Work`. It waits where a queue is full, and never fills one: a part of its items is worked on at a time."""

    def __init__(self, gateway: Gateway, engine: Engine) -> None:
        self._gateway, self._engine = gateway, engine

    async def __call__(self, lease: Lease, *, deadline: float, progress: Callable[[Progress], None]) -> bytes:
        """The answer that the request would have had; raises Problem where that is one."""
        request = check_score(orjson.loads(lease.request), self._gateway)
        total, done, bad = len(request.items), 0, 0
        progress(Progress(done, bad, total))

        def note(entry: JsonObject) -> None:
            nonlocal done, bad
            done, bad = done + 1, bad + ("error" in entry)
            progress(Progress(done, bad, total))

        job = lease.job
        order = Order(
            owner=job.owner, files_of=owner_of(job.id), deadline=deadline, request_id=job.id, is_patient=True
        )  # fmt: skip
        return orjson.dumps(await self._engine.score(request, order, on_item=note))
