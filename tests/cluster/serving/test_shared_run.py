"""An alignment run that is scored by a model of a service, with the bundled models."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytest_asyncio
import ray

from cluster.config import RunConfig
from cluster.local_ray import RaySession
from cluster.serving.deployment import Deployment
from cluster.serving.server import ModelServer
from cluster.serving.values import BatchResult, ScoreItem, Scores
from cluster.split import SplitPlacement
from policies.config import ShapesRewardConfig
from policies.errors import InputError
from tests.cluster.crashes import identity, run_apart, tiny
from tests.cluster.toy_parts import FACTORIES

pytestmark = [
    pytest.mark.ray,
    pytest.mark.slow,
    pytest.mark.asyncio(loop_scope="package"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning"),
]


@pytest_asyncio.fixture(scope="module", loop_scope="package")
async def server(session: RaySession) -> AsyncIterator[ModelServer]:
    started = await ModelServer.start([Deployment(name="shapes", reward=ShapesRewardConfig())], start_s=120)
    yield started
    await started.close()


def shared(folder: Path, **placement: Any) -> RunConfig:
    here = {"address": ray.get_runtime_context().gcs_address, "reward_app": "shapes", "generators": 1}
    return tiny(folder, run_id="shared", mode="split", updates=2, placement=here | placement)


async def test_a_run_on_a_shared_model_equals_one_with_its_own_while_callers_are_scored_too(
    server: ModelServer, tmp_path: Path
) -> None:
    frames = np.random.default_rng(0).integers(0, 255, (9, 32, 32, 3), np.uint8)
    item = ScoreItem(prompt="a red circle moving left slowly", frames_FHWC=frames, fps=8.0)
    forward, answers, before = server.forwards["shapes"], list[BatchResult](), await server.forwards["shapes"].pids()

    async def call() -> None:
        while True:
            answers.append(await forward.run([item] * 4, deadline=time.monotonic() + 60))

    calling = asyncio.create_task(call())
    assert await asyncio.to_thread(run_apart, shared(tmp_path), [], tmp_path) == 0
    calling.cancel()
    alone = tiny(tmp_path, run_id="alone", mode="in_process", updates=2)
    assert await asyncio.to_thread(run_apart, alone, [], tmp_path) == 0
    assert identity(tmp_path / "shared") == identity(tmp_path / "alone")
    assert len(answers) > 3
    assert all(answer.results == answers[0].results for answer in answers)
    assert isinstance(answers[0].results[0], Scores)
    assert await forward.pids() == before, "the end of the run took the service's model with it"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"placement": {"reward_app": "other"}}, "no such model is served"),
        ({"reward": {"path": "/elsewhere"}}, "is served with reward.path: None and the run's configuration says"),
    ],
)
async def test_a_run_does_not_start_on_a_model_that_is_not_the_one_it_describes(
    server: ModelServer, tmp_path: Path, changes: dict[str, Any], says: str
) -> None:
    config = shared(tmp_path, **changes.pop("placement", {}))
    config = config.model_copy(update={"reward": config.reward.model_copy(update=changes.get("reward", {}))})
    with pytest.raises(InputError, match=says):
        await SplitPlacement(config, tmp_path, FACTORIES)._start_scorer()
