"""A run's scorer and the ways in which a replica can fail its call; the replicas are played."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any

import grpc
import pytest
from ray.exceptions import ActorDiedError

from cluster.config import RunConfig

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")

CONFIG = RunConfig.model_validate({"policy": {"path": "shapes"}, "prompts": {"train": "shapes:train"}})


class Replies:
    """A handle whose `describe` raises what it is given, one after another, and then answers."""

    def __init__(self, *errors: BaseException) -> None:
        self.errors, self.calls = list(errors), 0
        self.describe = self

    def remote(self) -> Awaitable[dict[str, Any]]:
        return self._answer()

    async def _answer(self) -> dict[str, Any]:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return {"pid": 1, "model": "toy"}


@pytest.fixture(autouse=True)
def one_replica(monkeypatch: pytest.MonkeyPatch) -> None:
    from cluster import scorer

    monkeypatch.setattr(scorer, "FIRST_PAUSE_S", 0.001)
    monkeypatch.setattr(scorer, "replicas_of", lambda app: 1)


def scorer_of(handle: Any) -> Any:
    from cluster.scorer import RayScorer

    return RayScorer(handle, CONFIG, app="toy")


@pytest.mark.parametrize(
    "error", [asyncio.CancelledError(), grpc.RpcError(), ActorDiedError()], ids=lambda error: type(error).__name__
)
async def test_a_replica_that_is_ended_in_the_middle_of_a_call_costs_a_run_nothing(error: BaseException) -> None:
    replies = Replies(error)
    made = scorer_of(replies)
    await made.start(deadline_s=5)
    assert replies.calls == 2 and made.reward_model == {"model": "toy"}


async def test_a_run_that_is_stopped_does_not_try_again() -> None:
    class Silent(Replies):
        async def _answer(self) -> dict[str, Any]:
            self.calls += 1
            await asyncio.sleep(60)
            return {}

    silent = Silent()
    starting = asyncio.create_task(scorer_of(silent).start(deadline_s=60))
    await asyncio.sleep(0.01)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert silent.calls == 1
