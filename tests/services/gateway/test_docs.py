"""Pages for people."""

import asyncio
import re
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest
import pytest_asyncio
import uvicorn

from tests.services.gateway.conftest import Service
from tests.services.test_report_browser import QUIET

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_the_page_names_nothing_of_another_server_and_has_no_script_in_it(
    shared_client: httpx2.AsyncClient,
) -> None:
    page = (await shared_client.get("/docs")).text
    named = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert named and all(name.startswith("/docs/") or name == "data:," for name in named)
    assert not re.search(r"<script>|<style| on\w+=|https?:", page)
    for name in named[1:]:
        assert (await shared_client.get(name)).status_code == 200
    start = (await shared_client.get("/docs/start.js")).text
    assert "validatorUrl: null" in start and "http" not in start.replace("https", "")


async def test_pages_may_load_only_what_is_served_here(shared_client: httpx2.AsyncClient) -> None:
    policy = (await shared_client.get("/docs")).headers["content-security-policy"]
    assert "default-src 'none'" in policy and "script-src 'self';" in policy
    assert "unsafe" not in policy and "*" not in policy and "http" not in policy


async def test_every_kind_of_problem_says_what_to_do(shared_client: httpx2.AsyncClient) -> None:
    page = (await shared_client.get("/problems/video_frame_too_large")).text
    assert "<h1>Video refused</h1>" in page and "422" in page


async def test_a_code_that_does_not_exist_has_no_page(shared_client: httpx2.AsyncClient) -> None:
    response = await shared_client.get("/problems/<script>")
    assert response.status_code == 404 and "<" not in response.text


@pytest_asyncio.fixture(loop_scope="module")
async def port(shared_service: Service) -> AsyncIterator[int]:
    """Of the service, on this machine's own network."""
    server = uvicorn.Server(uvicorn.Config(shared_service.app, port=0, lifespan="off", log_level="error"))
    serving = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    yield int(server.servers[0].sockets[0].getsockname()[1])
    server.should_exit = True
    await serving


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="no chromium or chrome on this machine")
async def test_a_browser_without_a_network_shows_all_operations(
    shared_service: Service, port: int, tmp_path: Path
) -> None:
    assert BROWSER is not None
    url = f"http://me:{shared_service.admin}@127.0.0.1:{port}/docs"
    offline = "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1"
    command = [BROWSER, *QUIET.split(), offline, f"--user-data-dir={tmp_path}", "--dump-dom", url]
    browser = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    page, errors = (stream.decode() for stream in await asyncio.wait_for(browser.communicate(), 120))
    console = [line for line in errors.splitlines() if "CONSOLE" in line]
    assert console == []
    spec = shared_service.app.state.describe()
    for path in spec["paths"]:
        assert f'data-path="{path}"' in page, path
    assert shared_service.admin not in page
