"""Server-sent events: what happens to a job, from wherever the listener left off."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

import orjson

from cluster.errors import StoreUnavailableError
from cluster.store.job_record import Job
from cluster.store.jobs import Event, Jobs
from services.gateway.jobs_desk import JobsDesk

MEDIA_TYPE = "text/event-stream"
LOOK_S = 1.0
"""How often the store is asked for what other servers wrote."""
HEARTBEAT_S = 15.0
LONGEST_S = 600.0
"""Then the listener has to come back, with the id of the last event it got."""

_RETRY = b"retry: 1000\n\n"
_HEARTBEAT = b":\n\n"
_AT_ONCE = 100


def encoded(event: Event) -> bytes:
    """An event on the wire. Its data is one line of JSON, so that nothing in it can end it early."""
    data = orjson.loads(event.data)
    name = "progress" if "done" in data else "state"
    return b"id: %d\nevent: %b\ndata: %b\n\n" % (event.id, name.encode(), orjson.dumps(data))


async def stream(jobs: Jobs, desk: JobsDesk, job: Job, *, after: int) -> AsyncIterator[bytes]:
    """All events beyond the one with the id `after`, until the job's last one, or the server ends, or LONGEST_S."""
    until = time.monotonic() + LONGEST_S
    yield _RETRY
    heartbeat_at = time.monotonic() + HEARTBEAT_S
    with desk.watching(job.id, job.owner) as news:
        while not desk.is_closing and time.monotonic() < until:
            try:
                now = await jobs.get(job.id)
                if now is None or (now.has_ended and after >= now.last_event):
                    return
                events = await jobs.events(job.id, after=after, limit=_AT_ONCE) if after < now.last_event else []
            except StoreUnavailableError:  # who listens can wait for it as well as we can
                events = []
            for event in events:
                yield encoded(event)
                after = event.id
            if events:
                heartbeat_at = time.monotonic() + HEARTBEAT_S
                continue
            if time.monotonic() >= heartbeat_at:
                yield _HEARTBEAT
                heartbeat_at = time.monotonic() + HEARTBEAT_S
            await news.wait(LOOK_S)
