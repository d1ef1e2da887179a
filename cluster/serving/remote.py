"""A deployed reward model as the gateway calls it: batches over Serve handles, with retries and deadlines."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import grpc
import ray
from ray.exceptions import RayError, RayTaskError
from ray.serve.exceptions import RayServeException

from cluster.deadline import is_cancelled_here
from cluster.errors import ReplicaBrokenError
from cluster.failures import LOST
from cluster.serving.application import handle_of
from cluster.serving.known_replicas import replicas_of
from cluster.serving.values import BatchResult, Failure, FailureCode, ModelFacts, ScoreItem
from policies.errors import StallError

_log = logging.getLogger(__name__)

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.02, 1.0
MOST_LOSSES = 4  # replicas that may die in one batch, which may be what kills them
BY_VALUE_BYTES = 2**20  # of a batch; above, the object store is faster than the call, which ends at 4 MiB

_LOST = (*LOST, ReplicaBrokenError, grpc.RpcError)  # a call was on it

_UNAVAILABLE = Failure(
    code=FailureCode.MODEL_UNAVAILABLE, detail="No replica of the model answered before the deadline; try again."
)
_LATE = Failure(code=FailureCode.DEADLINE_PASSED, detail="The deadline passed before the item was scored.")
_FAILED = Failure(code=FailureCode.MODEL_FAILED, detail="The model failed on this batch.")


class RemoteForward:
    """A `Forward` over the replicas of one application. Of the loop in which it is made."""

    facts: ModelFacts  # of the replica that answered last

    def __init__(self, name: str) -> None:
        self.name = name
        handle = handle_of(name)
        serialization = {"request_serialization": "pickle", "response_serialization": "pickle"}
        self._by_value = handle.options(method_name="run_batch", _by_reference=False, **serialization)
        self._by_reference = handle.options(method_name="run_batch", _by_reference=True)
        self._handle, self._describe = handle, handle.options(method_name="describe")

    @property
    def replicas(self) -> int:
        """How many replicas could take a batch now."""
        return replicas_of(self.name)

    async def run(self, items: Sequence[ScoreItem], *, deadline: float) -> BatchResult:
        """Scores a batch, with as many tries as fit before `deadline` (of time.monotonic())."""
        described = [(item.prompt, item.fps) for item in items]
        frames: Any = [item.frames_FHWC for item in items]
        is_large = sum(item.frames_FHWC.nbytes + 4 * len(item.prompt) for item in items) > BY_VALUE_BYTES

        async def send(left_s: float) -> Any:
            nonlocal frames
            if not is_large:
                return await self._by_value.remote(described, frames, left_s)
            if isinstance(frames, list):
                frames = await asyncio.to_thread(ray.put, frames)
            return await self._by_reference.remote(described, frames, left_s)

        return self._answered(items, await self._ask(send, deadline=deadline))

    async def _ask(self, send: Callable[[float], Awaitable[Any]], *, deadline: float) -> Any:
        """A replica's answer, or the Failure to get one; `send` is told how many seconds are left."""
        pause_s, failure, losses = FIRST_PAUSE_S, _LATE, 0
        while (left_s := deadline - time.monotonic()) > 0:
            try:
                async with asyncio.timeout(left_s):
                    return await send(left_s)
            except TimeoutError:
                break
            except asyncio.CancelledError:
                if is_cancelled_here():
                    raise
                failure = _UNAVAILABLE  # the replica that is being ended cancelled it
            except Exception as error:
                if not _is_of_the_replica(error):
                    _log.error("a replica of the reward model %r raised %r", self.name, error)
                    return _FAILED
                failure, losses = _UNAVAILABLE, losses + isinstance(_cause(error), _LOST)
                if losses == MOST_LOSSES:
                    _log.error("the reward model %r lost %d replicas in one batch: %r", self.name, losses, error)
                    break
            await asyncio.sleep(min(pause_s * random.uniform(0.5, 1.0), max(deadline - time.monotonic(), 0)))
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
        return failure if self.replicas else _UNAVAILABLE

    def _answered(self, items: Sequence[ScoreItem], answer: BatchResult | Failure | None) -> BatchResult:
        if isinstance(answer, BatchResult):
            self.facts = answer.facts
            return answer
        return BatchResult(results=(answer or _LATE,) * len(items), facts=self.facts, inference_ms=0.0)

    async def describe(self, *, deadline: float) -> None:
        """Asks a replica what it is, once before the first batch. Raises StallError."""
        answer = await self._ask(lambda _: self._describe.remote(), deadline=deadline)
        if isinstance(answer, Failure):
            raise StallError(f"the reward model {self.name!r} is up and does not say what it is: {answer.detail}")
        self.facts = answer["facts"]

    async def pids(self) -> list[int]:
        """Process ids of the replicas that answer."""
        answers = await self._handle.broadcast("describe").results_async(timeout_s=10.0, return_exceptions=True)
        return sorted(answer["pid"] for answer in answers if isinstance(answer, dict))

    async def close(self) -> None:
        """Forgets the application."""
        await self._handle.shutdown_async()


def _is_of_the_replica(error: Exception) -> bool:
    """Whether another replica, or the same one later, may answer: its process or the way to it is to blame."""
    cause = _cause(error)
    return isinstance(cause, (*_LOST, RayError, RayServeException)) and not isinstance(cause, RayTaskError)


def _cause(error: Exception) -> Exception:
    cause: Exception = error.cause if isinstance(error, RayTaskError) else error
    return cause
