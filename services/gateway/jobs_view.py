"""A job as callers see it."""

from __future__ import annotations

import orjson

from cluster.store.job_record import Job
from cluster.store.jobs import Jobs
from services.gateway.problems import JsonObject

_LAST_EVENTS = 3
"""Among so many is the newest progress, if there has been any in the latest attempt."""


def entry(job: Job) -> JsonObject:
    """What is known without asking the store again."""
    base = f"/v1/jobs/{job.id}"
    return {
        "id": job.id,
        "object": "job",
        "state": job.state,
        "attempt": job.attempt,
        "created_at": job.created_at,
        "started_at": job.started_at,
        "ended_at": job.ended_at,
        "urls": {"job": base, "events": f"{base}/events", "result": f"{base}/result", "cancel": f"{base}/cancel"},
    }


async def view(jobs: Jobs, job: Job) -> JsonObject:
    """All about a job, with its result."""
    result = await jobs.result(job.id) if job.has_ended else None
    document = None if result is None else orjson.Fragment(result)
    return {
        **entry(job),
        "queue_position": await jobs.ahead_of(job) if job.state == "queued" else None,
        "progress": await _progress(jobs, job),
        "result": document if job.state == "succeeded" else None,
        "error": document if job.state == "failed" else None,
    }


async def _progress(jobs: Jobs, job: Job) -> JsonObject | None:
    events = await jobs.events(job.id, after=job.last_event - _LAST_EVENTS, limit=_LAST_EVENTS)
    for event in reversed(events):
        data = orjson.loads(event.data)
        if "done" in data:
            return {name: data[name] for name in ("done", "failed", "total")}
        if data.get("state") == "running":
            return None
    return None
