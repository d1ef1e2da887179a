"""On real Ray Serve, over toy models."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import pytest_asyncio

from cluster.local_ray import RaySession
from cluster.serving.deployment import Autoscaling, Deployment
from cluster.serving.server import ModelServer
from cluster.serving.values import BatchResult, FailureCode, Forward, ScoreItem, Scores
from policies.config import ShapesRewardConfig
from policies.errors import InputError
from tests.cluster.serving.toy_models import Toy

pytestmark = [
    pytest.mark.ray,
    pytest.mark.slow,
    pytest.mark.asyncio(loop_scope="package"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning"),
]

START_S = 120.0
MOST_CPUS = 20.0  # of the session's 32


def toy(name: str = "toy", *, replicas: int = 1, build: Toy = Toy(), **settings: Any) -> Deployment:  # noqa: B008
    return Deployment(name=name, reward=ShapesRewardConfig(), replicas=replicas, build=build, **settings)


def clip(brightness: int, *, frames: int = 2) -> ScoreItem:
    return ScoreItem(prompt="a clip", frames_FHWC=np.full((frames, 8, 8, 3), brightness, np.uint8), fps=8.0)


async def score(forward: Forward, *items: ScoreItem, seconds: float = 60.0) -> BatchResult:
    return await forward.run(items, deadline=time.monotonic() + seconds)


@pytest_asyncio.fixture(scope="module", loop_scope="package")
async def server(session: RaySession) -> AsyncIterator[ModelServer]:
    started = await ModelServer.start([toy(replicas=2)], start_s=START_S)
    yield started
    await started.close()


async def test_a_batch_comes_back_in_order_small_or_large(server: ModelServer) -> None:
    forward = server.forwards["toy"]
    assert forward.replicas == 2
    assert forward.facts.dimensions == ("brightness",)
    for frames in (2, 30_000):  # the second goes through the object store
        done = await score(forward, clip(3), clip(200, frames=frames))
        assert [result.raw["brightness"] for result in done.results if isinstance(result, Scores)] == [3.0, 200.0]


async def test_replicas_are_no_less_urgent_than_who_calls_them(server: ModelServer) -> None:
    assert {psutil.Process(pid).nice() for pid in await server.forwards["toy"].pids()} == {psutil.Process().nice()}


async def test_batches_at_the_same_time_run_on_different_replicas(server: ModelServer) -> None:
    forward = server.forwards["toy"]
    for _ in range(10):
        done = await asyncio.gather(score(forward, clip(3)), score(forward, clip(4)))
        assert len({answer.facts.revision for answer in done}) == 2
        assert forward.facts in [answer.facts for answer in done]


async def test_a_killed_replica_costs_no_failure_and_is_replaced(server: ModelServer) -> None:
    forward = server.forwards["toy"]
    before = await forward.pids()
    results: list[BatchResult] = []

    async def ask() -> None:
        results.append(await score(forward, clip(3)))

    async with asyncio.TaskGroup() as asking:
        for number in range(100):
            asking.create_task(ask())
            await asyncio.sleep(0.01)
            if number == 20:
                os.kill(before[0], signal.SIGKILL)
    assert len(results) == 100
    assert all(isinstance(done.results[0], Scores) for done in results)
    async with asyncio.timeout(START_S):
        while before[0] in await forward.pids() or len(await forward.pids()) < 2:
            await asyncio.sleep(0.1)
    after = await forward.pids()
    assert before[1] in after and before[0] not in after


async def test_models_come_and_go_without_touching_the_others(server: ModelServer, tmp_path: Path) -> None:
    stays = await server.forwards["toy"].pids()
    switch = tmp_path / "switch"
    other = toy("other", build=Toy(switch=str(switch)))
    await server.apply([toy(replicas=2), other])
    assert isinstance((await score(server.forwards["other"], clip(5))).results[0], Scores)

    switch.write_text("fail to load")
    changed, broken = (toy(name, build=Toy(switch=str(switch), seconds=0.001)) for name in ("other", "broken"))
    with pytest.raises(InputError, match=r"reward\.path: nowhere holds no model; name a folder that does"):
        await server.apply([toy(replicas=2), changed, broken])
    assert server.deployments == {"toy": toy(replicas=2), "other": other}
    assert set(server.forwards) == {"toy", "other"}
    assert isinstance((await score(server.forwards["other"], clip(5))).results[0], Scores)
    switch.unlink()
    await server.apply([toy(replicas=2)])
    assert set(server.forwards) == {"toy"}
    assert await server.forwards["toy"].pids() == stays


@pytest.mark.parametrize("cpus", [MOST_CPUS, 1], ids=["no room for one more", "one more at first"])
async def test_a_restart_replaces_every_replica_and_no_call_fails(server: ModelServer, cpus: float) -> None:
    await server.apply([toy("single", cpus_per_replica=cpus)])
    forward = server.forwards["single"]
    before, results, is_over = await forward.pids(), list[BatchResult](), asyncio.Event()

    async def ask() -> None:
        while not is_over.is_set():
            results.append(await score(forward, clip(3)))

    asking = [asyncio.create_task(ask()) for _ in range(2)]
    await server.restart("single")
    is_over.set()
    await asyncio.gather(*asking)
    assert not set(before) & set(await forward.pids())
    assert all(isinstance(done.results[0], Scores) for done in results)


async def test_without_a_replica_in_time_items_say_so(server: ModelServer) -> None:
    forward = server.forwards["single"]
    for pid in await forward.pids():
        os.kill(pid, signal.SIGKILL)
    late = await score(forward, clip(3), seconds=0.3)
    assert getattr(late.results[0], "code", None) == FailureCode.MODEL_UNAVAILABLE
    assert isinstance((await score(forward, clip(3), seconds=START_S)).results[0], Scores)


async def test_a_forward_that_hangs_is_run_elsewhere_and_its_replica_replaced(
    server: ModelServer, tmp_path: Path
) -> None:
    switch = tmp_path / "switch"
    await server.apply([toy("hangs", replicas=2, build=Toy(switch=str(switch)), stall_s=0.5)])
    forward = server.forwards["hangs"]
    before = await forward.pids()
    switch.write_text("hang")
    assert isinstance((await score(forward, clip(3))).results[0], Scores)
    async with asyncio.timeout(START_S):
        while forward.replicas < 2 or before == await forward.pids():
            await asyncio.sleep(0.1)
    assert len(set(before) & set(await forward.pids())) == 1


async def test_replicas_follow_the_load(server: ModelServer) -> None:
    limits = Autoscaling(max_replicas=2, upscale_delay_s=0.5, downscale_delay_s=0.5)
    await server.apply([toy("scales", build=Toy(seconds=0.05), autoscaling=limits)])
    forward = server.forwards["scales"]
    assert forward.replicas == 1
    async with asyncio.timeout(START_S):
        while forward.replicas == 1:  # one batch in flight, as the gateway keeps it
            assert isinstance((await score(forward, clip(3))).results[0], Scores)
        while forward.replicas == 2:
            await asyncio.sleep(0.1)
