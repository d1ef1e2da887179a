"""A pool of generators: Ray actors that sample slices of groups and keep the arrays away from the controller.

A slice is a request like any other: ids, seeds and version in, candidates out. Whoever draws it draws the same, so a
slice whose actor died is given to another, unchanged.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import ray
from ray.actor import ActorHandle
from ray.exceptions import ActorDiedError, RayTaskError

from cluster.config import RunConfig
from cluster.deadline import within
from cluster.errors import PartError
from cluster.failures import LOST, raised_by
from cluster.handles import Place, Row, as_arguments, rows_of
from cluster.latents import write_latents
from policies.errors import StallError
from policies.online_vpo import Generator
from policies.types import Candidate, Handle, SampleRequest

SLICES_PER_ACTOR = 2  # one being drawn, one waiting, so that an actor never waits for the controller
IO = "io"


class GeneratorActor:
    """One generator process. Builds its generator at the first call, so that a failure to build is an answer."""

    def __init__(self, config: RunConfig, run_dir: Path, build: Callable[[RunConfig, Path], Generator]) -> None:
        self._config, self._run_dir, self._build = config, run_dir, build
        self._generator: Generator | None = None
        self._loop = asyncio.new_event_loop()  # kept: a new one for every slice costs more than the call

    def prepare(self) -> int:
        """Loads the model; the process id."""
        self._ready()
        return os.getpid()

    def sample(self, request: SampleRequest) -> tuple[list[Candidate], np.ndarray, np.ndarray]:
        """Candidates without their arrays, then all their latents and all their frames, stacked."""
        drawn = self._loop.run_until_complete(self._ready().sample(request))
        light = [replace(candidate, latents=None, frames=None) for candidate in drawn]
        latents = np.stack([as_numpy(candidate.latents) for candidate in drawn])
        return light, latents, np.stack([as_numpy(candidate.frames) for candidate in drawn])

    def write_latents(self, path: Path, places: list[Place], *arrays: np.ndarray) -> str:
        """Writes the latents of a pair, chosen and rejected; the file's sha256."""
        return write_latents(path, *rows_of(places, arrays))

    def _ready(self) -> Generator:
        if self._generator is None:
            self._generator = self._build(self._config, self._run_dir)
        return self._generator


class _Lane:
    """One actor of the pool, and what it is busy with."""

    def __init__(self, index: int, actor: ActorHandle) -> None:
        self.index, self.actor = index, actor
        self.slices = 0
        self.pid = 0
        self.is_up = False
        self.life = 0  # deaths so far


class GeneratorPool:
    """A `Generator` over several actors."""

    def __init__(
        self,
        config: RunConfig,
        run_dir: Path,
        build: Callable[[RunConfig, Path], Generator],
        *,
        log_tail: Callable[[int], str],
    ) -> None:
        self._config, self._deadlines, self._placement = config, config.deadlines, config.placement
        self._log_tail = log_tail
        make = ray.remote(
            max_restarts=-1,
            max_task_retries=0,
            num_cpus=self._placement.cpus_per_generator,
            num_gpus=self._placement.gpus_per_generator,
            concurrency_groups={IO: 2},
        )(GeneratorActor)
        self._lanes = [_Lane(i, make.remote(config, run_dir, build)) for i in range(self._placement.generators)]
        self._free = asyncio.Condition()
        self._repairs: set[asyncio.Task[None]] = set()
        self._failure: Exception | None = None

    @property
    def pids(self) -> list[int]:
        """Process ids of the actors."""
        return [lane.pid for lane in self._lanes]

    async def start(self) -> None:
        """Returns when every actor has loaded its model."""
        await asyncio.gather(*(self._prepare(lane, self._deadlines.start_s) for lane in self._lanes))

    async def close(self) -> None:
        """Stops waiting for actors to come back."""
        for task in self._repairs:
            task.cancel()
        await asyncio.gather(*self._repairs, return_exceptions=True)

    async def sample(self, request: SampleRequest) -> list[Candidate]:
        """One candidate per seed, in the order of the seeds; slices are drawn side by side."""
        size = self._config.sampling.candidates_per_slice or len(request.seeds)
        parts = await asyncio.gather(*(self._sample_slice(part) for part in request.slices(size)))
        return [candidate for part in parts for candidate in part]

    async def write_latents(self, path: Path, chosen: Handle, rejected: Handle) -> str:
        """Writes a pair's latents on an actor, beside what it samples; the file's sha256."""
        places, arrays = as_arguments((chosen, rejected))

        def call(lane: _Lane) -> Awaitable[Any]:
            return lane.actor.write_latents.options(concurrency_group=IO).remote(path, places, *arrays)  # type: ignore

        return str(await self._on_some_lane(call, what=f"latents of {path.stem}", is_slice=False))

    # -- slices and lanes ----------------------------------------------------------------------------------------

    async def _sample_slice(self, request: SampleRequest) -> list[Candidate]:
        arrays: list[ray.ObjectRef] = []

        def call(lane: _Lane) -> Awaitable[Any]:
            light, *arrays[:] = lane.actor.sample.options(num_returns=3).remote(request)
            return light  # type: ignore[no-any-return]

        light = await self._on_some_lane(call, what=f"a slice of group {request.group_id}", is_slice=True)
        latents, frames = arrays
        return [
            replace(candidate, latents=Row(latents, index), frames=Row(frames, index))
            for index, candidate in enumerate(light)
        ]

    async def _on_some_lane(self, call: Callable[[_Lane], Awaitable[Any]], *, what: str, is_slice: bool) -> Any:
        """Runs a call on the least busy actor, again on another for as long as actors die of it."""
        while True:
            lane = await self._take(is_slice)
            life, limit_s = lane.life, self._deadlines.sample_s * max(lane.slices, 1)
            try:
                return await within(call(lane), seconds=limit_s, waiting_for=f"generator {lane.index} for {what}")
            except LOST as error:
                self._quarantine(lane, life, error)
            except StallError as error:
                if life == lane.life:
                    ray.kill(lane.actor, no_restart=False)
                self._quarantine(lane, life, error)
            except RayTaskError as error:
                raise raised_by(f"generator {lane.index}", error) from error
            finally:
                if is_slice:
                    await self._give_back(lane)

    async def _take(self, is_slice: bool) -> _Lane:
        """The least busy actor. Waits for one no longer than others may work, or a dead one may take to return."""
        async with self._free:
            while True:
                if self._failure is not None:
                    raise self._failure
                up = [lane for lane in self._lanes if lane.is_up and (not is_slice or lane.slices < SLICES_PER_ACTOR)]
                if up:
                    break
                await self._free.wait()
            lane = min(up, key=lambda lane: lane.slices)
            lane.slices += is_slice
            return lane

    async def _give_back(self, lane: _Lane) -> None:
        async with self._free:
            lane.slices -= 1
            self._free.notify_all()

    # -- deaths --------------------------------------------------------------------------------------------------

    def _quarantine(self, lane: _Lane, life: int, error: Exception) -> None:
        """Gives an actor nothing to do until it answers again. Of calls that one death fails, the first counts."""
        if life == lane.life:
            lane.is_up = False
            lane.life += 1
            task = asyncio.create_task(self._repair(lane, error))
            self._repairs.add(task)
            task.add_done_callback(self._repairs.discard)

    async def _repair(self, lane: _Lane, error: Exception) -> None:
        try:
            if lane.life > self._placement.max_restarts:
                raise PartError(
                    f"generator {lane.index} died {lane.life} times, and placement.max_restarts is "
                    f"{self._placement.max_restarts}; the last time: {error}{self._log_tail(lane.pid)}"
                ) from error
            await self._prepare(lane, self._deadlines.recovery_s)
        except Exception as failure:
            self._failure = failure
        async with self._free:
            self._free.notify_all()

    async def _prepare(self, lane: _Lane, limit_s: float) -> None:
        """Waits until an actor, perhaps in its next life, has loaded its model."""

        async def ready() -> int:
            while True:
                try:
                    return int(await lane.actor.prepare.remote())
                except ActorDiedError as error:  # for good: its class or arguments could not be loaded there
                    raise PartError(f"generator {lane.index} cannot start: {error}") from error
                except LOST:
                    await asyncio.sleep(0.1)
                except RayTaskError as error:
                    raise raised_by(f"generator {lane.index}", error) from error

        lane.pid = await within(ready(), seconds=limit_s, waiting_for=f"generator {lane.index} to load its model")
        lane.is_up = True


def as_numpy(array: Any) -> np.ndarray:
    """A tensor or array as numpy: torch crosses the object store 45 times slower."""
    return array if isinstance(array, np.ndarray) else array.detach().cpu().numpy()
