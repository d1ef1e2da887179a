"""What becomes of a call when its replica fails in some way; without Ray, whose errors are real."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import grpc
import pytest
from ray.exceptions import ActorDiedError, ActorUnavailableError, ObjectStoreFullError, RayTaskError

from cluster.errors import ReplicaBrokenError
from cluster.serving.values import Failure, FailureCode

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


class Replies:
    """Raises one error after the other, then answers."""

    def __init__(self, *errors: BaseException) -> None:
        self.errors, self.calls = list(errors), 0

    async def __call__(self, left_s: float) -> str:
        assert left_s > 0
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return "scores"


async def ask(replies: Any, *, seconds: float = 10.0) -> Any:
    from cluster.serving.remote import RemoteForward

    forward = RemoteForward.__new__(RemoteForward)
    forward.name = "toy"
    return await forward._ask(replies, deadline=time.monotonic() + seconds)


def of_the_code(error: Exception) -> RayTaskError:
    return RayTaskError("run_batch", "its traceback", error)


def of_serve() -> list[Exception]:
    from ray.serve._private.common import DeploymentID
    from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError, RequestCancelledError

    return [BackPressureError(5, 5), DeploymentUnavailableError(DeploymentID("reward", "toy")), RequestCancelledError()]


@pytest.mark.parametrize(
    "error",
    [
        ActorDiedError(),
        ActorUnavailableError("gone", b"0" * 16),
        ReplicaBrokenError("a forward has not ended"),
        of_the_code(ReplicaBrokenError("a forward has not ended")),
        grpc.RpcError(),
        asyncio.CancelledError(),  # by the replica, which is being ended
    ],
    ids=lambda error: type(error).__name__,
)
async def test_what_the_replica_is_to_blame_for_is_tried_again(error: BaseException) -> None:
    replies = Replies(error)
    assert await ask(replies) == "scores"
    assert replies.calls == 2


async def test_while_serve_cannot_take_a_call_it_is_tried_again_however_often() -> None:
    replies = Replies(*of_serve(), *of_serve(), ObjectStoreFullError())
    assert await ask(replies) == "scores"


async def test_what_the_code_raises_is_not_tried_again() -> None:
    replies = Replies(of_the_code(KeyError("brightness")))
    failure = await ask(replies)
    assert (failure.code, replies.calls) == (FailureCode.MODEL_FAILED, 1)


async def test_a_batch_that_loses_one_replica_after_another_is_given_up() -> None:
    replies = Replies(*(ActorDiedError() for _ in range(10)))
    failure = await ask(replies)
    assert (failure.code, replies.calls) == (FailureCode.MODEL_UNAVAILABLE, 4)


async def test_an_answer_that_does_not_come_in_time_is_not_waited_for() -> None:
    failure = await ask(lambda left_s: asyncio.sleep(60), seconds=0.01)
    assert isinstance(failure, Failure) and failure.code.is_retryable


async def test_whoever_cancels_the_call_is_obeyed() -> None:
    asking = asyncio.create_task(ask(lambda left_s: asyncio.sleep(60)))
    await asyncio.sleep(0.01)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
