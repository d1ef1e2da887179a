"""docs/serving.md says the limits that no setting changes."""

from pathlib import Path

import pytest

from services.gateway import (
    body,
    comparison,
    engine,
    events,
    files_check,
    files_form,
    idempotency,
    job_attempt,
    jobs,
    jobs_accept,
    json_body,
    pages,
    uris,
)
from services.serving import http_protocol, http_server, lingering

PAGE = Path(__file__).parents[3] / "docs" / "serving.md"
KIB, MIB, GIB = 2**10, 2**20, 2**30
LIMITS = {
    "request line and headers": f"{http_protocol.HEADER_BYTES // KIB} KiB, within {http_protocol.HEADERS_S:g} s",
    "a connection between two requests": f"{http_server.KEEP_ALIVE_S} s",
    "requests that are sent ahead on one connection": f"{http_protocol.MOST_AHEAD}",
    "a pause within a body": f"{body.CHUNK_S:g} s",
    "the slowest body": f"{body.SLOWEST_BYTES_PER_S // KIB} KiB/s, after the first {body.GRACE_S:g} s",
    "a body that goes on after its request was refused": (
        f"{http_protocol.HEADERS_S:g} s, or {lingering.LINGER_S:g} s if the refusal closes the connection"
    ),
    "an answer that nobody reads": f"{http_protocol.WRITE_S:g} s",
    "bodies in memory, of all callers": f"{body.BODIES_AT_ONCE} times `limits.request_bytes`",
    "a JSON body": (
        f"{json_body._MOST_OBJECTS} objects, {json_body._MOST_PARTS} commas, "
        f"{json_body._MOST_MEMBERS} members of one object"
    ),
    "a form": f"one file; {files_form._MOST_HEADERS} headers of {files_form._LONGEST_HEADER} bytes",
    "decoding an upload before it is kept": f"{files_check.CHECK_S:g} s, and {files_check.LARGEST // MIB} MiB",
    "decoded frames that wait for a model": f"{engine.FRAME_BYTES // GIB} GiB, of all callers",
    "items of one request that are worked on together": f"{engine.WINDOW}",
    "frames of one comparison": f"{comparison.LARGEST_BYTES // GIB} GiB",
    "a job's request without its videos": f"{jobs_accept.LARGEST_REQUEST // MIB} MiB",
    "servers that may die under one job": f"{job_attempt.MOST_ATTEMPTS}",
    "`wait` for a job": f"{jobs.LONGEST_WAIT_S:g} s",
    "requests that wait for jobs or listen to them": f"{jobs.MOST_WATCHERS}, {jobs.MOST_OF_A_CALLER} of one key",
    "one stream of events": f"{events.LONGEST_S:g} s",
    "a page of a list": f"{pages.LARGEST_PAGE}",
    "a URI": f"{uris.LONGEST} characters",
    "an Idempotency-Key": f"255 characters; answers of {idempotency.LARGEST_ANSWER // MIB} MiB",
}


@pytest.mark.parametrize("what", LIMITS)
def test_the_page_says_each_limit_as_it_is(what: str) -> None:
    assert f"| {what} | {LIMITS[what]} |" in PAGE.read_text()
