"""What holds for every address."""

import httpx2
import pytest
from starlette.routing import Mount, Route

from services.gateway.problem_kinds import KINDS
from tests.services.gateway.conftest import Service

pytestmark = pytest.mark.asyncio(loop_scope="module")


def addresses(routes: list, prefix: str = "") -> list[tuple[str, str]]:
    """(method, path) of all routes, mounted ones too."""
    found = []
    for route in routes:
        if isinstance(route, Mount):
            found += addresses(route.routes, prefix + route.path)
        else:
            assert isinstance(route, Route), route
            found += [(method, prefix + route.path) for method in route.methods or ()]
    return found


async def test_every_route_but_liveness_wants_a_key(service: Service) -> None:
    every = addresses(service.app.routes)
    assert ("GET", "/livez") in every and ("GET", "/docs") in every
    async with service.client() as client:
        for method, path in every:
            response = await client.request(method, path.replace("{", "").replace("}", ""))
            assert (response.status_code == 401) == (path != "/livez"), (method, path)


async def test_without_a_key_an_unknown_address_looks_like_a_known_one(service: Service) -> None:
    async with service.client() as client:
        assert (await client.get("/nowhere")).status_code == 401
        assert (await client.get("/v1/../livez")).status_code in (401, 200)


async def test_unknown_addresses_and_methods_are_problems(client: httpx2.AsyncClient) -> None:
    missing = await client.get("/nowhere")
    wrong = await client.post("/livez")
    for response, code in ((missing, "not_found"), (wrong, "method_not_allowed")):
        body = response.json()
        assert response.headers["content-type"] == "application/problem+json"
        assert (body["status"], body["code"]) == (response.status_code, code)
        assert body["request_id"] == response.headers["x-request-id"]
    assert wrong.headers["allow"] == "GET"


async def test_every_problem_has_a_page(client: httpx2.AsyncClient) -> None:
    for code in KINDS:
        response = await client.get(f"/problems/{code}")
        assert response.status_code == 200 and code in response.text


async def test_every_answer_has_the_security_headers_and_an_id(client: httpx2.AsyncClient) -> None:
    for path in ("/livez", "/docs", "/nowhere", "/metrics"):
        headers = (await client.get(path, headers={"X-Request-Id": "mine-1"})).headers
        assert headers["cache-control"] == "no-store"
        assert headers["x-content-type-options"] == "nosniff"
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "access-control-allow-origin" not in headers
        assert headers["x-request-id"] == "mine-1"


@pytest.mark.parametrize("mine", ["a b", "x" * 129, '"', "ä"])
async def test_a_request_id_of_another_form_is_replaced(client: httpx2.AsyncClient, mine: str) -> None:
    response = await client.get("/livez", headers={"X-Request-Id": mine.encode()})
    assert len(response.headers["x-request-id"]) == 32
