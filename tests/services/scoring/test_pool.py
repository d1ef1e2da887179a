import asyncio
import time

import pytest

from cluster.serving.values import FailureCode, Scores
from policies.errors import InputError
from services.scoring.model import Models
from services.scoring.pool import ModelPool
from services.serve_config import DeploymentConfig
from tests.services.scoring.fake_forward import FakeForward, item


class Restarts:
    def __init__(self) -> None:
        self.names: list[str] = []

    async def __call__(self, name: str) -> None:
        self.names.append(name)


def pool_of(*names: str, a: float = 0.0) -> ModelPool:
    pool = ModelPool(default="first", restart=Restarts())
    for name in names:
        pool.add(name, FakeForward(a=a), DeploymentConfig())
    return pool


async def reward(models: Models, name: str) -> float | str:
    model = models.get(name)
    assert model is not None
    (outcome,) = await model.score([item(3)], caller="a", deadline=time.monotonic() + 60)
    return outcome.result.reward if isinstance(outcome.result, Scores) else outcome.result.code.value


async def test_models_are_found_by_name() -> None:
    pool = pool_of("first", "second")
    assert (pool.names, pool.default, pool.get("third")) == (("first", "second"), "first", None)
    assert [await reward(pool, name) for name in pool.names] == [3, 3]


async def test_a_model_that_is_added_or_removed_leaves_the_others_as_they_are() -> None:
    pool = pool_of("first")
    first = pool.get("first")
    pool.add("second", FakeForward(), DeploymentConfig())
    assert await reward(pool, "second") == 3
    await pool.remove("second", deadline=time.monotonic() + 60)
    assert (pool.names, pool.get("first")) == (("first",), first)
    assert await reward(pool, "first") == 3


async def test_a_model_that_is_removed_finishes_what_it_has() -> None:
    pool = pool_of("first", "second", a=0.01)
    running = asyncio.create_task(reward(pool, "second"))
    await asyncio.sleep(0)
    await pool.remove("second", deadline=time.monotonic() + 60)
    assert await running == 3


async def test_a_name_is_used_once_and_an_unknown_one_is_refused() -> None:
    pool = pool_of("first")
    with pytest.raises(InputError, match="there is a model 'first' already"):
        pool.add("first", FakeForward(), DeploymentConfig())
    with pytest.raises(InputError, match="no model 'other'; there are first"):
        await pool.remove("other", deadline=time.monotonic())
    with pytest.raises(InputError, match="no model 'other'"):
        await pool.restart("other")


async def test_a_restart_is_passed_on() -> None:
    restarts = Restarts()
    pool = ModelPool(default="first", restart=restarts)
    pool.add("first", FakeForward(), DeploymentConfig())
    await pool.restart("first")
    assert restarts.names == ["first"]


async def test_after_closing_every_model_says_that_it_is_unavailable() -> None:
    pool = pool_of("first", "second")
    await pool.close(deadline=time.monotonic() + 60)
    assert [await reward(pool, name) for name in pool.names] == [FailureCode.MODEL_UNAVAILABLE] * 2
