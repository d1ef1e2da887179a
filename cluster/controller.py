"""One run from start to end: brings the parts up, iterates the loop, records, commits, stops and evaluates.

Recovery is the same call again: everything is read back from the run directory, and what the newest commit does not
cover is done again with the same ids, seeds and versions.
"""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from cluster.calibrate import calibrated_reward
from cluster.config import RunConfig
from cluster.groups import RecordedGroups
from cluster.metrics import metrics_line
from cluster.observer import RunObserver
from cluster.parts import load_run_prompts, sampling_of, shape_of
from cluster.phases import PhaseClock
from cluster.placement import Placement
from cluster.results import export_lora, run_test
from cluster.run_directory import Commit, RunDirectory, write_json
from cluster.start import start_placement
from cluster.stopping import StopSignals
from cluster.validation import Validation
from policies.calibration import Reward
from policies.errors import InputError
from policies.online_vpo import LoopPlan, run_online_vpo
from policies.prompts import prompt_batches
from policies.selection import PairSelector
from policies.shapes.prompts import parse_prompt
from policies.types import Prompt, Update

RESULT = "result.json"
CHECKPOINT_COST_SHARE = 0.02  # of the run's time, what `checkpoint.interval_updates: auto` may cost

Start = Callable[[RunConfig, RunDirectory], Awaitable[Placement]]
Ended = Literal["completed", "early_stop", "stopped_sigint", "stopped_sigterm"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """How a run ended, and what its test said."""

    run_dir: Path
    ended: Ended
    updates: int
    seconds: dict[str, float]
    test: dict[str, Any] | None


def run(config: RunConfig, *, observer: RunObserver, start: Start = start_placement) -> RunResult:
    """Runs to the end, from wherever the run directory stands.

    Args:
        config: with a run_id.
        observer: is told of everything as it happens.
        start: brings the parts up.
    Raises:
        InputError: the configuration, its prompts or its run directory cannot be used; nothing was left behind.
        ClusterError: Ray cannot be started or reached.
        OnlineVPOError: the run failed; what was committed stands and `resume` goes on from there.
    """
    if config.run_id is None:
        raise InputError("run_id is not set; give the run a name")
    directory = RunDirectory(Path(config.output_dir).absolute() / config.run_id)
    prompts = load_all_prompts(config)
    existed = directory.path.exists()
    directory.create(config)
    if existed:
        return resume(directory.path, observer=observer, start=start)
    try:
        return asyncio.run(_Run(config, directory, prompts, observer, start).main())
    except InputError:
        directory.remove()  # the input was bad, so there is no run
        raise


def resume(run_dir: Path, *, observer: RunObserver, start: Start = start_placement) -> RunResult:
    """Goes on with a run that was stopped or killed; harmless on one that is complete."""
    directory = RunDirectory(run_dir.absolute())
    config = directory.read_config()
    finished = _finished(directory)
    if finished is not None:
        observer.on_start(directory.path, config, finished.updates)
        observer.on_end(finished)
        return finished
    return asyncio.run(_Run(config, directory, load_all_prompts(config), observer, start).main())


def _finished(directory: RunDirectory) -> RunResult | None:
    """The result of a run that has nothing left to do."""
    try:
        stored = json.loads((directory.path / RESULT).read_bytes())
    except FileNotFoundError:
        return None
    if stored["ended"] not in ("completed", "early_stop"):
        return None
    return RunResult(**stored | {"run_dir": directory.path})


def load_all_prompts(config: RunConfig) -> dict[str, list[Prompt]]:
    """The run's prompts; those of an exactly scored test must be of that world."""
    prompts = load_run_prompts(config)
    if config.evaluation.ground_truth == "shapes":
        for prompt in prompts.get("test", []):
            parse_prompt(prompt.text)  # raises InputError for text that is not of that world
    return prompts


@dataclass(slots=True)
class _Run:
    config: RunConfig
    directory: RunDirectory
    prompts: dict[str, list[Prompt]]
    observer: RunObserver
    start: Start
    seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    clock: PhaseClock = field(default_factory=PhaseClock)

    async def main(self) -> RunResult:
        task = asyncio.current_task()
        assert task is not None
        begun = time.perf_counter()
        commit = self.directory.newest_commit()
        self.directory.void_after(commit.update if commit else -1)
        self.observer.on_start(self.directory.path, self.config, commit.update if commit else 0)
        ended: Ended = "completed"
        test = None
        with StopSignals(task) as signals:
            try:
                self.observer.on_stage("startup")
                placement = await self.start(self.config, self.directory)
                try:
                    self.seconds["startup"] = time.perf_counter() - begun
                    reward = await self._calibrate(placement, commit)
                    validation = Validation(
                        self.config, self.directory, self.prompts.get("validation"), placement, reward
                    )
                    ended = await self._train(placement, reward, validation, signals)
                    if ended in ("completed", "early_stop"):
                        test = await self._finish(placement, reward, validation)
                finally:
                    await placement.close()
            except asyncio.CancelledError:
                if signals.received is None:
                    raise
                task.uncancel()
        if signals.received is not None and ended in ("completed", "early_stop"):
            ended = _stopped_by(signals.received)
        self.seconds["total"] = time.perf_counter() - begun
        return self._result(ended, test)

    # -- training ----------------------------------------------------------------------------------------------

    async def _calibrate(self, placement: Placement, commit: Commit | None) -> Reward:
        """The run's reward, and a commit of version 0 before anything else."""
        if commit is None:
            await _Commits(self.config, self.directory, placement, self.observer).make([])
        self.observer.on_stage("calibrate")
        return await calibrated_reward(
            self.config,
            self.directory,
            self.prompts["train"],
            generator=placement.generator,
            scorer=placement.scorer,
            reward_model=await placement.reward_model(),
        )

    async def _train(self, placement: Placement, reward: Reward, validation: Validation, signals: StopSignals) -> Ended:
        """The loop, with commits where they are due and after its last update."""
        learner = placement.learner
        commits = _Commits(self.config, self.directory, placement, self.observer)
        hashes = {0: self.directory.weights_hash(0), learner.policy_version: learner.weights_hash}
        validation.cut(updates=learner.policy_version)
        groups = RecordedGroups(
            placement.generator,
            placement.scorer,
            PairSelector(reward, self.config.pairs, run_seed=self.config.seed),
            directory=self.directory,
            reward_model=await placement.reward_model(),
            write_latents=placement.write_latents,
            weights_hash=hashes.__getitem__,
            clock=self.clock,
        )
        self.observer.on_stage("train")
        signals.is_updating = True
        self.clock.lap()
        ended: Ended = "completed"
        updates = run_online_vpo(
            prompt_batches(
                self.prompts["train"],
                per_update=self.config.prompts_per_update,
                run_seed=self.config.seed,
                first=learner.policy_version,
                last=self.config.updates,
            ),
            generator=groups,
            scorer=groups,
            selector=groups,
            learner=_Timed(learner, self.clock),
            plan=self._plan(),
        )
        async for update in updates:
            hashes[learner.policy_version] = learner.weights_hash
            commits.note(update)
            self._record(update, placement)
            is_best = await self._validate(validation, learner.policy_version)
            if validation.is_exhausted:
                ended = "early_stop"
            elif signals.received is not None:
                ended = _stopped_by(signals.received)
            if is_best or ended != "completed" or commits.is_due():
                await commits.make_noted(keep=validation.best_version)
            if ended != "completed":
                break
        await updates.aclose()
        await commits.make_noted(keep=validation.best_version)
        signals.is_updating = False
        return ended

    def _plan(self) -> LoopPlan:
        return LoopPlan(
            run_seed=self.config.seed,
            candidates_per_prompt=self.config.sampling.candidates_per_prompt,
            reference_update_interval=self.config.reference_update_interval,
            is_online=self.config.pairs.source == "online",
            sampling=sampling_of(self.config),
            shape=shape_of(self.config),
        )

    def _record(self, update: Update, placement: Placement) -> None:
        seconds = self.clock.lap()
        for name in ("generate", "score", "update"):
            self.seconds[name] += seconds[name]
        line = metrics_line(update, seconds=seconds, pids=placement.pids())
        self.directory.append_metrics(line)
        self.observer.on_update(line)

    async def _validate(self, validation: Validation, version: int) -> bool:
        """True when this version is the best so far."""
        if not validation.is_due(version):
            return False
        begun = time.perf_counter()
        record = await validation.measure(version)
        self.seconds["evaluate"] += time.perf_counter() - begun
        self.clock.lap()
        self.observer.on_validation(record)
        return validation.best_version == version

    # -- after training ----------------------------------------------------------------------------------------

    async def _finish(self, placement: Placement, reward: Reward, validation: Validation) -> dict[str, Any] | None:
        begun = time.perf_counter()
        best = validation.best_version
        version = placement.learner.policy_version if best is None else best
        export_lora(self.config, self.directory, version, reward_model=await placement.reward_model())
        test = None
        if "test" in self.prompts:
            self.observer.on_stage("evaluate")
            test = await run_test(
                self.config, self.directory, self.prompts["test"], placement, reward=reward, version=version
            )
        self.seconds["evaluate"] += time.perf_counter() - begun
        return test

    def _result(self, ended: Ended, test: dict[str, Any] | None) -> RunResult:
        names = ("startup", "generate", "score", "update", "evaluate", "total")
        result = RunResult(
            run_dir=self.directory.path,
            ended=ended,
            updates=sum(1 for _ in self.directory.read_metrics()),
            seconds={name: round(self.seconds[name], 3) for name in names},
            test=test,
        )
        write_json(self.directory.path / RESULT, asdict(result) | {"run_dir": str(result.run_dir)})
        self.observer.on_end(result)
        return result


def _stopped_by(number: signal.Signals) -> Ended:
    return "stopped_sigint" if number is signal.SIGINT else "stopped_sigterm"


class _Timed:
    """A learner whose updates count as the phase `update`."""

    def __init__(self, learner: Any, clock: PhaseClock) -> None:
        self._learner, self._clock = learner, clock

    @property
    def policy_version(self) -> int:
        return int(self._learner.policy_version)

    @property
    def reference_version(self) -> int:
        return int(self._learner.reference_version)

    async def update(self, batch: Any, *, batch_index: int) -> Any:
        with self._clock.phase("update"):
            return await self._learner.update(batch, batch_index=batch_index)

    async def update_reference(self) -> int:
        with self._clock.phase("update"):
            return int(await self._learner.update_reference())


class _Commits:
    """When to commit, and what the next commit names."""

    def __init__(self, config: RunConfig, directory: RunDirectory, placement: Placement, observer: RunObserver) -> None:
        self._config, self._directory, self._observer = config, directory, observer
        self._learner = placement.learner
        newest = directory.newest_commit()
        self._newest = newest.update if newest else -1
        self._group_ids: list[str] = []
        self._save_seconds = 0.0
        self._since = time.perf_counter()

    def note(self, update: Update) -> None:
        """Remembers the groups of an update for the next manifest."""
        self._group_ids += [outcome.group_id for outcome in update.outcomes]

    def is_due(self) -> bool:
        """By number of updates, or when the time since the last commit makes its cost small enough."""
        interval = self._config.checkpoint.interval_updates
        if interval != "auto":
            return self._learner.policy_version - self._newest >= interval
        return (time.perf_counter() - self._since) * CHECKPOINT_COST_SHARE >= self._save_seconds

    async def make_noted(self, *, keep: int | None) -> None:
        """Commits everything since the newest commit, if there is anything."""
        if self._learner.policy_version > self._newest:
            await self.make(self._group_ids, keep=keep)
            self._group_ids = []

    async def make(self, group_ids: list[str], *, keep: int | None = None) -> None:
        """Saves the state, then makes it count by its manifest, then tidies up."""
        begun = time.perf_counter()
        learner, checkpoint = self._learner, self._config.checkpoint
        version = learner.policy_version
        files = await learner.save(str(self._directory.checkpoint_folder(version)))
        commit = self._directory.commit(
            update=version,
            position=learner.position,
            reference_version=learner.reference_version,
            weights_hash=learner.weights_hash,
            files=files,
            group_ids=group_ids,
        )
        await learner.committed(commit.position)
        self._directory.prune_commits(keep_last=checkpoint.keep_last, keep=set() if keep is None else {keep})
        self._directory.prune_latents(before_batch=version - checkpoint.keep_latents_updates)
        self._newest = version
        self._since = time.perf_counter()
        self._save_seconds = self._since - begun
        self._observer.on_commit(version)
