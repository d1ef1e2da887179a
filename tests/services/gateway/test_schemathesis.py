"""The whole API against its own description: every operation, every check, with states."""

import asyncio
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
import uvicorn

from tests.services.gateway.conftest import Service

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]

ROOT = Path(__file__).parents[3]


@pytest_asyncio.fixture(loop_scope="module")
async def url(shared_service: Service) -> AsyncIterator[str]:
    """Of the service, whose jobs are worked on."""
    server = uvicorn.Server(uvicorn.Config(shared_service.app, port=0, lifespan="on", log_level="error"))
    serving = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    shared_service.gateway.desk.close()
    server.should_exit = True
    await serving


async def test_every_operation_keeps_to_its_description(shared_service: Service, url: str, tmp_path: Path) -> None:
    shutil.copy(ROOT / "schemathesis.toml", tmp_path)
    key = f"Authorization: Bearer {shared_service.admin}"
    command = [sys.executable, "-m", "schemathesis.cli", "run", f"{url}/openapi.json", "-H", key, "--checks", "all"]
    command += ["--max-examples", "30", "--seed", "4", "--no-color"]
    process = await asyncio.create_subprocess_exec(
        *command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    output, _ = await asyncio.wait_for(process.communicate(), 500)
    text = output.decode()
    operations = sum(len(methods) for methods in shared_service.app.state.describe()["paths"].values())
    assert process.returncode == 0, text[-8000:]
    assert f"Tested: {operations}" in text
