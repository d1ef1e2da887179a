"""Requests that become jobs."""

from __future__ import annotations

import asyncio

import orjson
from starlette.requests import Request
from starlette.responses import Response

from cluster.store.job_record import Job
from cluster.store.records import new_id
from services.gateway.jobs_files import let_go, take_over
from services.gateway.jobs_view import view
from services.gateway.problem_kinds import CONTENT_TOO_LARGE, QUEUE_FULL
from services.gateway.problems import JsonObject, Problem
from services.gateway.routes import answer, caller, current, operation_id
from services.gateway.state import Gateway

LARGEST_REQUEST = 16 * 2**20
"""Bytes of one as the store keeps it, without videos."""
_RETRY_S = 5.0


async def accepted(request: Request, value: JsonObject) -> Response:
    """Makes a job of a body of POST /v1/score that `check_score` let pass, and answers 202.

    Raises:
        Problem: so many jobs wait already, or the request cannot be kept.
        StoreUnavailableError: with an Idempotency-Key, the same request finds the job if it was made after all.
    """
    gateway = current(request)
    job = await _job(gateway, value, owner=caller(request).id, operation=operation_id(request))
    headers = {"Location": f"/v1/jobs/{job.id}", "Preference-Applied": "respond-async"}
    return answer(await view(gateway.store.jobs, job), status=202, headers=headers)


async def _job(gateway: Gateway, value: JsonObject, *, owner: str, operation: str | None) -> Job:
    jobs, job_id = gateway.store.jobs, operation or new_id()
    if operation is not None and (known := await jobs.get(operation)) is not None:
        return known
    if await jobs.unfinished() >= gateway.config.limits.unfinished_jobs:
        raise Problem(QUEUE_FULL, retry_after_s=_RETRY_S)
    try:
        kept = orjson.dumps(await take_over(gateway, value, owner=owner, job_id=job_id))
        if len(kept) > LARGEST_REQUEST:
            raise Problem(CONTENT_TOO_LARGE)
    except BaseException:
        await asyncio.shield(asyncio.ensure_future(let_go(gateway.shelf, gateway.store.files, job_id)))
        raise
    job = await jobs.create(owner=owner, request=kept, job_id=job_id)
    gateway.desk.arrivals.tell()
    return job
