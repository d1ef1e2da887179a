"""Jobs: to look at, to wait for, to listen to, to cancel. What makes them is `POST /v1/score` (`jobs_accept.py`)."""

from __future__ import annotations

import time
from typing import Annotated

from fastapi import Header, Query
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from cluster.store.job_record import Job
from services.gateway import events
from services.gateway.jobs_desk import JobsDesk
from services.gateway.jobs_files import let_go
from services.gateway.jobs_schemas import JobId, JobList, JobView
from services.gateway.jobs_view import entry, view
from services.gateway.pages import Cursor, Limit, listing
from services.gateway.problem_kinds import QUEUE_FULL, kind
from services.gateway.problems import Problem
from services.gateway.routes import answer, current, needs, new_router, problems

LONGEST_WAIT_S = 60.0
MOST_WATCHERS, MOST_OF_A_CALLER = 512, 64
"""Requests that wait for jobs or listen to them: of all callers together, of one."""
_RETRY_S = 2.0

TOO_MANY_WAIT = kind(
    "too_many_wait", 429, "Too many wait",
    "As many requests of this API key as may wait for jobs or listen to them do.",
    "Ask for the job without waiting, or wait for fewer jobs at once.", retryable=True,
)  # fmt: skip
JOB_NOT_FOUND = kind(
    "job_not_found", 404, "No such job", "This API key has no job of this id.",
    "GET /v1/jobs lists the jobs of an API key. Jobs that ended are forgotten after some days.",
)  # fmt: skip
JOB_NOT_FINISHED = kind(
    "job_not_finished", 409, "Not finished", "The job has not ended yet.",
    "Wait for it with GET /v1/jobs/{id}?wait=20, or listen to its events.", retryable=True,
)  # fmt: skip
JOB_CANCELED = kind(
    "job_canceled", 409, "Canceled", "The job was canceled and has no result.", "Send its request again.",
)  # fmt: skip
JOB_FAILED = kind(
    "job_failed", 409, "Failed", "The job failed and has no result.", "GET /v1/jobs/{id} has its problem as `error`.",
)  # fmt: skip

_EVENT = {
    "type": "object", "description": "An event; `data` is JSON.", "required": ["data"],
    "properties": {name: {"type": "string"} for name in ("id", "event", "data")},
}  # fmt: skip

_EVENTS = {"description": "Events until the job ends", "content": {events.MEDIA_TYPE: {"schema": _EVENT}}}
_RESULT = {
    "description": "As if the request had waited",
    "content": {"application/json": {"schema": {"type": "object"}}},
}

router = new_router()


@router.get(
    "/v1/jobs", tags=["jobs"], operation_id="list_jobs", summary="List jobs", responses=problems(422),
    response_model=JobList,
)  # fmt: skip
async def list_jobs(request: Request, cursor: Cursor = None, limit: Limit = 50) -> Response:
    """Jobs of this API key, newest first. New ones do not move the pages of those before them."""
    key = needs(request, "score")
    return answer(await listing(current(request).store.jobs.page, key.id, entry, cursor=cursor, limit=limit))


@router.get(
    "/v1/jobs/{job_id}", tags=["jobs"], operation_id="get_job", summary="Look at a job, or wait for it",
    responses=problems(422, 429), response_model=JobView,
)  # fmt: skip
async def get_job(
    request: Request,
    job_id: JobId,
    wait: Annotated[
        float, Query(ge=0, le=LONGEST_WAIT_S, description="Seconds to wait for the job's end before answering.")
    ] = 0.0,
) -> Response:
    """How a job stands, with its result once it has ended."""
    job = await _own(request, job_id)
    if wait and not job.has_ended:
        job = await _ended(request, job, seconds=wait)
    return answer(await view(current(request).store.jobs, job))


@router.get(
    "/v1/jobs/{job_id}/events", tags=["jobs"], operation_id="listen_to_job", summary="Listen to a job",
    responses={200: _EVENTS, **problems(422, 429)},
    response_class=Response,
)  # fmt: skip
async def listen_to_job(
    request: Request,
    job_id: JobId,
    last_event_id: Annotated[
        str | None,
        Header(pattern="^[0-9]{1,9}$", description="Id of the last event that was received; later ones follow."),
    ] = None,
) -> Response:
    """Server-sent events: `state` when the job's state changes, `progress` while it runs. Ends with the job."""
    job = await _own(request, job_id)
    gateway = current(request)
    _refuse_too_many(gateway.desk, job.owner)
    after = min(int(last_event_id or 0), job.last_event)
    body = events.stream(gateway.store.jobs, gateway.desk, job, after=after)
    return StreamingResponse(body, media_type=events.MEDIA_TYPE, headers={"X-Accel-Buffering": "no"})


@router.get(
    "/v1/jobs/{job_id}/result", tags=["jobs"], operation_id="get_job_result", summary="The result alone",
    responses={200: _RESULT, **problems(409, 422)},
    response_class=Response,
)  # fmt: skip
async def get_job_result(request: Request, job_id: JobId) -> Response:
    """The answer to the request that the job was made for."""
    job = await _own(request, job_id)
    if not job.has_ended:
        raise Problem(JOB_NOT_FINISHED, retry_after_s=_RETRY_S)
    result = await current(request).store.jobs.result(job.id)
    if job.state != "succeeded" or result is None:
        raise Problem(JOB_CANCELED if job.state == "canceled" else JOB_FAILED)
    return Response(result, media_type="application/json")


@router.post(
    "/v1/jobs/{job_id}/cancel", tags=["jobs"], operation_id="cancel_job", summary="Cancel a job",
    responses=problems(409, 422), response_model=JobView,
)  # fmt: skip
async def cancel_job(request: Request, job_id: JobId) -> Response:
    """Ends a job that has not ended; one that has stays as it is. The answer says how it stands."""
    gateway = current(request)
    await _own(request, job_id)
    job = await gateway.store.jobs.cancel(job_id)
    if job is None:
        raise Problem(JOB_NOT_FOUND)
    if job.state == "canceled":
        gateway.desk.stop(job_id)
        await let_go(gateway.shelf, gateway.store.files, job_id)
    return answer(await view(gateway.store.jobs, job))


async def _own(request: Request, job_id: str) -> Job:
    """The caller's job; anybody else's is as if there were none."""
    key = needs(request, "score")
    job = await current(request).store.jobs.get(job_id)
    if job is None or job.owner != key.id:
        raise Problem(JOB_NOT_FOUND)
    return job


async def _ended(request: Request, job: Job, *, seconds: float) -> Job:
    """The job as it is once it has ended, or after some time."""
    gateway, until = current(request), time.monotonic() + seconds
    _refuse_too_many(gateway.desk, job.owner)
    with gateway.desk.watching(job.id, job.owner) as news:
        while (left := until - time.monotonic()) > 0 and not gateway.desk.is_closing:
            known = await gateway.store.jobs.get(job.id)
            if known is None or known.has_ended:
                return known or job
            job = known
            await news.wait(min(left, events.LOOK_S))
    return job


def _refuse_too_many(desk: JobsDesk, owner: str) -> None:
    if desk.watchers_of(owner) >= MOST_OF_A_CALLER:
        raise Problem(TOO_MANY_WAIT, retry_after_s=_RETRY_S)
    if desk.watchers >= MOST_WATCHERS:
        raise Problem(QUEUE_FULL, retry_after_s=_RETRY_S)
