"""The models of a service."""

import asyncio
from collections.abc import Callable
from typing import Any

import httpx2
import pytest

from tests.services.gateway.conftest import Service
from tests.services.gateway.test_engine import ToyModel, scores
from tests.services.in_process_model import InProcessModels

pytestmark = pytest.mark.asyncio(loop_scope="module")


class SlowModels(InProcessModels):
    """A restart takes as long as it is let."""

    def __init__(self) -> None:
        super().__init__({"first": ToyModel(scores()), "second": ToyModel(scores())})
        self.done = asyncio.Event()

    async def restart(self, name: str) -> None:
        await self.done.wait()
        await super().restart(name)


@pytest.fixture
def models() -> SlowModels:
    return SlowModels()


@pytest.fixture
async def two(make_service: Callable[..., Any], models: SlowModels) -> Service:
    made: Service = await make_service(models=models)
    return made


async def test_a_model_says_what_it_is(shared_client: httpx2.AsyncClient) -> None:
    model = (await shared_client.get("/v1/models/shapes")).json()
    assert (model["name"], model["model"], model["object"]) == ("shapes", "shapes", "model")
    assert model["dimensions"] == ["VQ", "MQ", "TA"] and "model.safetensors" in model["files"]
    assert (model["ready"], model["queued"], model["default"], model["restarting"]) == (True, 0, True, False)


async def test_the_default_model_comes_first(two: Service) -> None:
    async with two.client(two.admin) as client:
        listed = (await client.get("/v1/models")).json()
    assert [(model["name"], model["default"]) for model in listed["data"]] == [("first", True), ("second", False)]
    assert listed["has_more"] is False


@pytest.mark.parametrize(("name", "status"), [("other", 404), ("UPPER", 422), ("a" * 65, 422), ("..%2Fshapes", 404)])
async def test_another_name_is_no_model(shared_client: httpx2.AsyncClient, name: str, status: int) -> None:
    for response in (
        await shared_client.get(f"/v1/models/{name}"),
        await shared_client.post(f"/v1/models/{name}/restart"),
    ):
        assert response.status_code == status
        assert name not in response.text


async def test_a_restart_goes_on_behind_and_only_once_at_a_time(two: Service, models: SlowModels) -> None:
    async with two.client(two.admin) as client:
        begun = await client.post("/v1/models/second/restart")
        assert (begun.status_code, begun.headers["location"]) == (202, "/v1/models/second")
        again = await client.post("/v1/models/second/restart")
        assert (again.status_code, again.json()["code"]) == (409, "restart_in_progress")
        assert (await client.get("/v1/models/second")).json()["restarting"] is True
        assert (await client.post("/v1/models/first/restart")).status_code == 202
        models.done.set()
        while (await client.get("/v1/models/second")).json()["restarting"]:
            await asyncio.sleep(0.001)
    assert sorted(models.restarted) == ["first", "second"]
