"""What others were attacked by, over HTTP. Each test is named after the case that it stands for."""

import asyncio
import base64
import json
import lzma
import re
import socket
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.gateway.examples import CLIP, PROMPT
from services.media.limits import MediaLimits
from tests.services.gateway.conftest import Service
from tests.services.media.clips import clip

BOMBS = Path(__file__).parents[1] / "media" / "bombs"

pytestmark = pytest.mark.asyncio(loop_scope="module")

URLS = [
    "http://127.0.0.1:{port}/a.mp4",
    "https://127.0.0.1:{port}/a.mp4",
    "HTTPS://127.0.0.1:{port}/a.mp4",
    "http://2130706433:{port}/",
    "http://[::ffff:127.0.0.1]:{port}/",
    "http://169.254.169.254/latest/meta-data/",
    "http://localhost:{port}@example.com/",
    "ftp://127.0.0.1:{port}/a.mp4",
    "gopher://127.0.0.1:{port}/_",
    "file:///etc/passwd",
    "//127.0.0.1:{port}/a.mp4",
    "s3://127.0.0.1:{port}/a.mp4",
    "concat:http://127.0.0.1:{port}/a",
]


@pytest.fixture
async def canary() -> Any:
    """A port that must not be connected to."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        yield server
        with pytest.raises(BlockingIOError):
            server.accept()


@pytest.mark.parametrize("url", URLS)
@pytest.mark.parametrize("field", ["url", "uri", "data", "file_id"])
async def test_cve_2025_6242_no_address_in_a_request_is_connected_to(
    shared_client: httpx2.AsyncClient, canary: socket.socket, field: str, url: str
) -> None:
    video = {field: url.format(port=canary.getsockname()[1])}
    response = await shared_client.post("/v1/score", json={"items": [{"prompt": PROMPT, "video": video}]})
    assert response.status_code in (403, 404, 422)
    await asyncio.sleep(0)


@pytest.mark.parametrize("field", ["webhook", "webhook_url", "callback_url"])
async def test_cve_2026_2393_a_webhook_is_refused_and_not_called(
    shared_client: httpx2.AsyncClient, canary: socket.socket, field: str
) -> None:
    body = {
        "items": [{"prompt": PROMPT, "video": {"data": CLIP}}],
        field: f"http://127.0.0.1:{canary.getsockname()[1]}",
    }
    for headers in ({}, {"Prefer": "respond-async"}):
        response = await shared_client.post("/v1/score", json=body, headers=headers)
        assert (response.status_code, response.json()["code"]) == (422, "not_offered")


@pytest.mark.parametrize("text", ["<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "javascript:alert(1)"])
async def test_cve_2024_27132_text_of_a_caller_is_never_part_of_a_page(
    shared_client: httpx2.AsyncClient, text: str
) -> None:
    item = {"prompt": text, "video": {"data": CLIP}, "id": text}
    answers = [
        await shared_client.post("/v1/score", json={"items": [item], "model": text, text: text}),
        await shared_client.post("/v1/score", json={"items": [{"prompt": text, "video": {"data": CLIP}}]}),
        *[await shared_client.get(f"{path}{quote(text, safe='')}") for path in ("/problems/", "/docs", "/docs?", "/")],
    ]
    for answer in answers:
        assert text not in answer.text and answer.headers["X-Content-Type-Options"] == "nosniff"
        assert "script-src 'self'" in answer.headers["Content-Security-Policy"] or (
            "default-src 'none'" in answer.headers["Content-Security-Policy"]
        )


async def test_cve_2025_54381_a_string_where_a_file_belongs_is_not_fetched(
    shared_client: httpx2.AsyncClient, canary: socket.socket
) -> None:
    url = f"http://127.0.0.1:{canary.getsockname()[1]}/a.mp4"
    response = await shared_client.post("/v1/files", files={"file": (None, url)})
    assert response.status_code in (400, 422)
    assert url not in response.text


@pytest.mark.parametrize("host", ["evil.com", "evil.com:80", "localhost.evil.com", "127.0.0.1.evil.com", "0.0.0.0", ""])
@pytest.mark.parametrize("path", ["/livez", "/v1/models", "/docs"])
async def test_cve_2025_62593_a_rebound_name_gets_nothing(shared_service: Service, path: str, host: str) -> None:
    """Whatever the browser says that it is."""
    headers = {"Host": host, "User-Agent": "curl/8", "Origin": "http://evil.com"}
    async with shared_service.client(shared_service.admin, **headers) as client:
        response = await client.get(path)
    assert (response.status_code, response.json()["code"]) == (400, "host_not_allowed")
    assert "evil" not in response.text


@pytest.mark.parametrize("host", ["localhost:8000", "LOCALHOST", "127.0.0.1:1", "[::1]:8000", "[::1]"])
async def test_this_machine_is_always_allowed(shared_service: Service, host: str) -> None:
    async with shared_service.client(Host=host) as client:
        assert (await client.get("/livez")).status_code == 200


async def test_cve_2025_62593_a_form_of_another_site_changes_nothing(shared_service: Service) -> None:
    async with shared_service.client(shared_service.admin, Origin="http://evil.com") as client:
        body = json.dumps({"items": [{"prompt": PROMPT, "video": {"data": CLIP}}]})
        response = await client.post("/v1/score", content=body, headers={"Content-Type": "text/plain"})
        assert response.status_code == 415
        asked = await client.options("/v1/score", headers={"Access-Control-Request-Method": "POST"})
        assert asked.status_code == 405
        assert not [name for name in asked.headers if name.startswith("access-control")]


@pytest.mark.parametrize("container", ["mp4", "webm"])
async def test_cve_2026_34755_a_video_that_decodes_to_gigabytes_is_refused(
    shared_client: httpx2.AsyncClient, container: str
) -> None:
    video = lzma.decompress((BOMBS / f"bomb.{container}.xz").read_bytes())
    url = f"data:video/{container};base64,{base64.b64encode(video).decode()}"
    response = await shared_client.post("/v1/score", json={"items": [{"prompt": PROMPT, "video": {"data": url}}]})
    assert (response.status_code, response.json()["code"]) == (422, "video_frame_too_large")


async def test_cve_2026_100650_a_video_that_is_too_large_is_refused_before_it_is_decoded(make_service: Any) -> None:
    service = await make_service(media=MediaLimits(max_bytes=1000))
    url = "data:video/mp4;base64," + "A" * 1400
    async with service.client(service.admin) as client:
        response = await client.post("/v1/score", json={"items": [{"prompt": PROMPT, "video": {"data": url}}]})
    assert (response.status_code, response.json()["code"]) == (413, "video_too_large")


async def test_cve_2026_100650_a_body_that_is_too_large_is_refused_before_it_is_read(make_service: Any) -> None:
    service = await make_service(limits={"request_bytes": 1000})
    taken = 0

    async def endless() -> Any:
        nonlocal taken
        while True:
            taken += 100
            yield b" " * 100

    async with service.client(service.admin) as client:
        response = await client.post("/v1/score", content=endless(), headers={"Content-Type": "application/json"})
    assert (response.status_code, response.json()["code"]) == (413, "content_too_large")
    assert taken <= 1200


@pytest.mark.parametrize("name", ["max_frames", "fps", "max_pixels", "limits", "media", "max_bytes", "num_frames"])
@pytest.mark.parametrize("place", ["top", "item", "video"])
async def test_cve_2026_105758_a_request_cannot_raise_a_cap(
    shared_client: httpx2.AsyncClient, name: str, place: str
) -> None:
    video: dict[str, Any] = {"data": CLIP}
    item: dict[str, Any] = {"prompt": PROMPT, "video": video}
    body: dict[str, Any] = {"items": [item]}
    {"top": body, "item": item, "video": video}[place][name] = 10**9
    response = await shared_client.post("/v1/score", json=body)
    assert (response.status_code, response.json()["code"]) == (422, "invalid_request")


async def test_cve_2026_22778_no_answer_has_an_address_or_a_path(shared_client: httpx2.AsyncClient) -> None:
    broken = bytearray(clip())
    broken[len(broken) // 2 :] = b"\xff" * (len(broken) - len(broken) // 2)
    videos = [b"", b"\0" * 100, bytes(broken), clip()[:200], b"ffconcat version 1.0\nfile /etc/passwd\n"]
    urls = ["data:video/mp4;base64," + base64.b64encode(video).decode() for video in videos]
    items = [{"prompt": PROMPT, "video": {"data": url}} for url in (*urls, "data:;base64,x", "x")]
    for body in ({"items": items}, {"items": items[:1]}, {"items": [{}]}, [], {"model": "x", "items": items}):
        text = (await shared_client.post("/v1/score", json=body)).text
        assert not re.search(r"0x[0-9a-f]{6,}|object at|Traceback|\.py\b|/tmp|/etc|/usr|/root|/home", text), text


TRICKS = st.one_of(
    st.text(min_size=1, max_size=80),
    st.lists(
        st.sampled_from(
            ["..", ".", "%2e%2e", "%252e%252e", "/", "\\", "%2f", "%5c", "\0", "%00", "etc", "passwd", "#", "~"]
        ),
        min_size=1,
        max_size=12,
    ).map("".join),
)


@given(trick=TRICKS)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_cve_2023_6831_no_id_and_no_uri_leads_out_of_its_place(
    shared_client: httpx2.AsyncClient, trick: str
) -> None:
    """Also CVE-2024-1483, CVE-2024-2928, CVE-2024-3848, CVE-2024-1728, CVE-2023-51449, CVE-2026-24123."""
    for video in ({"file_id": trick}, {"uri": trick}, {"uri": f"root/{trick}"}):
        content = json.dumps({"items": [{"prompt": PROMPT, "video": video}]})
        response = await shared_client.post("/v1/score", content=content, headers={"Content-Type": "application/json"})
        assert response.status_code in (403, 404, 422)
        assert "root:" not in response.text
    for path in ("/v1/files/", "/v1/jobs/", "/v1/models/", "/problems/", "/docs/"):
        response = await shared_client.get(path + quote(trick, safe="%"))
        assert response.status_code < 500 and "root:" not in response.text, (path, trick)


PATHS = [
    "//v1/score", "/v1//score", "/v1/./score", "/v1/score/", "/livez/../v1/score", "/livez/..%2fv1%2fscore",
    "/v1/%73core", "/V1/SCORE", "/v1/score;/livez", "/v1/score?/livez", "/v1/score%00", "/livez%2f..%2fv1%2fscore",
    "/livez/", "//livez", "/livez;", "/livez%20", "/%6civez", "/livez/v1/score", "/.//livez", "/v1/../livez",
]  # fmt: skip


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("method", ["GET", "POST", "HEAD", "OPTIONS", "PUT", "TRACE", "PROPFIND", "get"])
async def test_cve_2026_24207_no_spelling_of_an_address_goes_without_a_key(
    shared_service: Service, path: str, method: str
) -> None:
    """The bytes of a path are sent as they are."""
    raw = path.encode()
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": b"{}", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    plain, _, query = raw.partition(b"?")
    scope = {
        "type": "http", "http_version": "1.1", "method": method, "path": httpx2.URL(f"http://h{path}").path,
        "raw_path": plain, "query_string": query, "root_path": "", "scheme": "http", "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
        "headers": [(b"host", b"localhost"), (b"x-http-method-override", b"GET"), (b"x-original-url", b"/livez"),
                    (b"x-forwarded-for", b"127.0.0.1"), (b"x-rewrite-url", b"/livez")],
    }  # fmt: skip
    await shared_service.app(scope, receive, send)
    assert sent[0]["status"] == 401
