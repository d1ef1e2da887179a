"""What surrounds every request."""

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tests.services.gateway.conftest import Service

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def fail(request: Request) -> Response:
    raise RuntimeError("secret of /etc/passwd at 0x7f0000000000")


async def test_a_failure_of_ours_is_a_problem_without_its_reason(
    service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    service.app.router.routes.append(Route("/fail", fail))
    async with service.client(service.admin) as client:
        response = await client.get("/fail")
    body = response.json()
    assert (response.status_code, body["code"]) == (500, "internal_error")
    assert response.headers["content-type"] == "application/problem+json"
    assert "secret" not in response.text
    assert body["request_id"] in caplog.text and "RuntimeError" in caplog.text


async def test_the_access_log_has_one_line_of_json_per_request_whatever_is_sent(
    make_service: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    service: Service = await make_service(access_log=True)
    evil = '/x%0A{"level":"error"}%1b[31m'
    async with service.client(service.admin, **{"User-Agent": "a\x1b[31m"}) as client:
        response = await client.get(evil, headers={"X-Request-Id": 'x"}'})
        await client.get("/livez")
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    first, second = map(json.loads, lines)
    assert (first["route"], first["status"], first["request_id"]) == (
        "unmatched",
        404,
        response.headers["x-request-id"],
    )
    assert (second["route"], second["status"]) == ("/livez", 200)
    assert first["key"] == service.admin.split("_")[1]
    secret = service.admin.split("_")[2]
    assert secret not in "".join(lines) and not re.search(r"level|\x1b", "".join(lines))


async def test_without_the_flag_nothing_is_written(service: Service, capsys: pytest.CaptureFixture[str]) -> None:
    async with service.client(service.admin) as client:
        await client.get("/livez")
    assert capsys.readouterr() == ("", "")


async def test_websockets_are_refused(service: Service) -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    await service.app({"type": "websocket", "path": "/v1/score", "headers": []}, receive, send)
    assert sent == [{"type": "websocket.close", "code": 1000}]
