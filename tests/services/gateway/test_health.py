"""Liveness, readiness, metrics."""

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any

import httpx2
import pytest
from prometheus_client.parser import text_string_to_metric_families

from cluster.errors import StoreUnavailableError
from services.gateway import health
from services.gateway.examples import CLIP, PROMPT
from services.scoring.counters import BatcherCounters
from tests.services.gateway.conftest import Service
from tests.services.gateway.test_engine import ToyModel, scores
from tests.services.in_process_model import InProcessModels

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def failing(service: Service) -> list[str]:
    async with service.client(service.admin) as client:
        response = await client.get("/readyz")
    assert (response.status_code, response.json()["code"]) == (503, "not_ready")
    assert response.json()["retryable"] and response.headers["retry-after"]
    return list(response.json()["failing"])


async def test_a_service_with_all_its_parts_is_ready(shared_client: httpx2.AsyncClient) -> None:
    assert (await shared_client.get("/readyz")).json() == {"status": "ready"}


async def test_a_model_without_a_replica_is_named(make_service: Callable[..., Any]) -> None:
    model = ToyModel(scores())
    model.is_ready = False
    assert await failing(await make_service(models=InProcessModels({"toy": model}))) == ["models/toy"]


async def test_a_store_that_is_away_is_named(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    async def away() -> None:
        raise StoreUnavailableError("away")

    monkeypatch.setattr(service.gateway.store, "ping", away)
    assert await failing(service) == ["store"]


async def test_a_store_that_hangs_is_named(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "_STORE_S", 0.01)
    monkeypatch.setattr(service.gateway.store, "ping", asyncio.Event().wait)
    assert await failing(service) == ["store"]


async def test_a_service_that_ends_is_not_ready(service: Service) -> None:
    service.gateway.desk.close()
    assert await failing(service) == ["draining"]


async def test_it_lives_whatever_fails(service: Service) -> None:
    service.gateway.desk.close()
    async with service.client() as client:
        assert (await client.get("/livez")).json() == {"status": "alive"}


async def test_metrics_count_requests_by_route_and_items_by_outcome(service: Service) -> None:
    bad = {"prompt": PROMPT, "video": {"data": "data:video/mp4;base64,AAAA"}}
    async with service.client(service.admin) as client:
        await client.post("/v1/score", json={"items": [{"prompt": PROMPT, "video": {"data": CLIP}}, bad]})
        for _ in range(2):
            await client.post("/v1/models/none/restart", headers={"Idempotency-Key": "a"})
        await client.get("/v1/models/shapes")
        text = (await client.get("/metrics")).text
    assert "_created" not in text
    samples = {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    route = ("onlinevpo_http_requests_total", ("method", "GET"), ("route", "/v1/models/{name}"), ("status", "200"))
    assert samples[route] == 1
    replays = ("onlinevpo_http_requests_total", ("method", "POST"), ("route", "replayed"), ("status", "404"))
    assert samples[replays] == 1
    assert samples["onlinevpo_items_total", ("model", "shapes"), ("outcome", "scored")] == 1
    assert samples["onlinevpo_items_total", ("model", "shapes"), ("outcome", "video_container_not_allowed")] == 1
    assert samples["onlinevpo_queued_items", ("model", "shapes")] == 0
    assert samples["onlinevpo_http_request_seconds_count", ("route", "/v1/score")] == 1


async def test_no_text_of_a_request_becomes_a_label(service: Service) -> None:
    lines = []
    async with service.client(service.admin) as client:
        for index in range(30):
            await client.request(f"VERB{index}", f"/secret-{index}", headers={"X-Request-Id": f"secret-{index}"})
            await client.post("/v1/score", json={"model": f"secret-{index}", "items": [{}]})
            text = (await client.get("/metrics")).text
            assert "secret" not in text and "VERB" not in text
            lines.append(len(text.splitlines()))
    assert lines[2] == lines[-1]


async def test_batches_are_shown_as_the_batcher_counts_them(make_service: Callable[..., Any]) -> None:
    model = ToyModel(scores())
    model.counters = BatcherCounters(batch_sizes=Counter({1: 3, 5: 2}), items=13, refused_by_caller=4)
    service = await make_service(models=InProcessModels({"toy": model}))
    text = service.app.state.metrics.text().decode()
    for line in (
        'onlinevpo_batch_items_bucket{le="1.0",model="toy"} 3.0',
        'onlinevpo_batch_items_bucket{le="8.0",model="toy"} 5.0',
        'onlinevpo_batch_items_sum{model="toy"} 13.0',
        'onlinevpo_unscored_items_total{model="toy",reason="refused_by_caller"} 4.0',
    ):
        assert line in text
