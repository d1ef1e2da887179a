"""The reward server as the loop sees it: a `Scorer` over a Ray Serve handle, with retries and a deadline."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import grpc
from ray.exceptions import RayError, RayTaskError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError, RayServeException
from ray.serve.handle import DeploymentHandle

from cluster.config import RunConfig
from cluster.deadline import is_cancelled_here
from cluster.errors import PartError, ReplicaBrokenError
from cluster.failures import raised_by
from cluster.handles import as_arguments
from cluster.reward_server import is_deployed
from cluster.serving.known_replicas import replicas_of
from policies.types import Candidate, Scored

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 5.0
CALLS_PER_REPLICA = 8  # under way; a replica still runs one at a time
_NOT_OF_THE_MODEL = {"pid", "facts", "reward"}


class RayScorer:
    """Passes frames on as references. A group that cannot be scored in time carries the reason; it is never 0."""

    def __init__(self, handle: DeploymentHandle, config: RunConfig, *, app: str) -> None:
        self._handle, self._app = handle, app
        self._deadline_s, self._fps = config.deadlines.score_s, config.sampling.fps
        self._replicas = config.placement.reward_replicas
        self._calls = asyncio.Semaphore(CALLS_PER_REPLICA * self._replicas)
        self.described: dict[str, Any] = {}
        self._answered: list[int] = []

    async def start(self, *, deadline_s: float) -> None:
        """Returns when a replica has loaded its model."""
        try:
            answer = await self._call("describe", deadline_s=deadline_s)
        except RayTaskError as error:
            raise raised_by("the reward server", error) from error
        if isinstance(answer, str):
            raise PartError(f"the reward server does not answer: {answer}")
        self.described = answer
        if (there := replicas_of(self._app)) > self._replicas:  # a service may have more than the run asks for
            self._replicas, self._calls = there, asyncio.Semaphore(CALLS_PER_REPLICA * there)

    @property
    def pids(self) -> list[int]:
        """Process ids of the replicas that answered last."""
        return sorted(self._answered)

    @property
    def reward_model(self) -> dict[str, Any]:
        """Name, revision and dimensions of the reward model."""
        return {key: value for key, value in self.described.items() if key not in _NOT_OF_THE_MODEL}

    async def score(self, candidates: Sequence[Candidate]) -> list[Scored]:
        """Same order; candidates come back without frames, whose references end here."""
        light = [replace(candidate, frames=None) for candidate in candidates]
        plain = [replace(candidate, latents=None) for candidate in light]
        places, arrays = as_arguments([candidate.frames for candidate in candidates])
        async with self._calls:
            try:
                answer = await self._call("score", plain, places, self._fps, *arrays, deadline_s=self._deadline_s)
            except RayTaskError as error:
                answer = f"{type(error.cause).__name__}: {error.cause}"
        if isinstance(answer, str):
            return [Scored(candidate=candidate, scores={}, failure=answer) for candidate in light]
        return [
            Scored(candidate=candidate, scores=scores, failure=failure)
            for candidate, (scores, failure) in zip(light, answer["results"], strict=True)
        ]

    async def _call(self, method: str, *arguments: Any, deadline_s: float) -> Any:
        """A replica's answer, or the reason why there is none within the deadline. Raises what its code raised."""
        end, pause_s, reason = time.monotonic() + deadline_s, FIRST_PAUSE_S, "no replica answered"
        while (left_s := end - time.monotonic()) > 0:
            try:
                async with asyncio.timeout(left_s):
                    answer = await getattr(self._handle, method).remote(*arguments)
                self._note(answer["pid"])
                return answer
            except TimeoutError:
                break
            except RayTaskError as error:
                if not isinstance(error.cause, ReplicaBrokenError):
                    raise  # the replica is well and its code raised: it would again
                reason = str(error.cause)
            except asyncio.CancelledError:
                if is_cancelled_here():
                    raise
                reason = "the replica was ended"  # by a restart of the service, say; another one answers
            except (RayError, RayServeException, BackPressureError, grpc.RpcError) as error:
                reason = f"{type(error).__name__}: {error}"
                if isinstance(error, DeploymentUnavailableError) and not await asyncio.to_thread(
                    is_deployed, self._app
                ):
                    raise PartError(f"the reward server {self._app} is gone: {error}") from error
            await asyncio.sleep(min(pause_s * random.uniform(0.5, 1.0), max(end - time.monotonic(), 0)))
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
        return f"not scored within {deadline_s:g} s: {reason}"

    def _note(self, pid: int) -> None:
        """Remembers who answered; a replica that died is pushed out by the one that took its place."""
        self._answered = [*(other for other in self._answered if other != pid), pid][-self._replicas :]
