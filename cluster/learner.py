"""The learner as the controller sees it: Ray Train runs the ranks, the mailbox carries the commands.

The commands since the last commit but one are kept, so that a mailbox that lost its memory gets them again, and a
worker group that Ray Train rebuilt finds every command that leads from the commit it restored to where it was.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import ActorDiedError
from ray.train import FailureConfig, ScalingConfig
from ray.train import RunConfig as TrainRunConfig
from ray.train.torch import TorchConfig, TorchTrainer

from cluster.config import RunConfig
from cluster.deadline import within
from cluster.errors import PartError
from cluster.factories import Factories
from cluster.failures import LOST, rebuild
from cluster.learner_rank import RankSettings, train_loop
from cluster.mailbox import Command, Mailbox
from policies.types import Selection, UpdateStats

STOP_LIMIT_S = 10.0


class _LeanTrainer(TorchTrainer):  # type: ignore[misc]
    """Ray Train without two helper processes that a run has no use for, each 1.5 s of CPU at the start.

    One deals out datasets, of which there are none. The other outlives the controller to free its placement group,
    which ends with the driver here. Should Ray rename what is overridden, both are back and nothing else changes.
    """

    def _create_default_callbacks(self) -> list[Any]:
        unused = ("DatasetsCallback", "PlacementGroupCleanerCallback")
        return [one for one in super()._create_default_callbacks() if type(one).__name__ not in unused]


class RayLearner:
    """A `RunLearner` whose ranks are Ray Train workers."""

    def __init__(
        self,
        config: RunConfig,
        run_dir: Path,
        factories: Factories,
        *,
        train_dir: Path,
        name: str,
        log_tail: Callable[[int], str],
    ) -> None:
        self._log_tail = log_tail
        self._config, self._placement, self._deadlines = config, config.placement, config.deadlines
        self._mailbox = (
            ray.remote(Mailbox)
            .options(max_restarts=-1, num_cpus=0)
            .remote(world_size=self._placement.learner_ranks, is_exact=config.policy.device == "cpu")
        )
        settings = RankSettings(config=config, run_dir=run_dir, factories=factories, mailbox=self._mailbox)
        self._trainer = self._build_trainer(settings, train_dir, name)
        self._ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._log: dict[int, Command] = {}
        self._oldest_kept = 0
        self._mailbox_deaths = 0
        self._turn = asyncio.Lock()
        self.position = self.policy_version = self.reference_version = 0
        self.weights_hash = ""
        self.pids: list[int] = []
        self.mailbox_pid = 0

    async def start(self) -> None:
        """Returns when every rank waits for its first command."""
        threading.Thread(target=self._fit, args=(asyncio.get_running_loop(),), name="ray-train", daemon=True).start()
        self.mailbox_pid = await self._mailbox.pid.remote()
        answer = await within(
            self._ask(lambda: self._mailbox.members.remote()),
            seconds=self._deadlines.start_s,
            waiting_for=f"the learner ({self._placement.learner_ranks} ranks) to start",
        )
        member = answer["members"][0]
        self.position = self._oldest_kept = member["position"]
        self._note(member, answer["pids"])

    async def update(self, batch: Sequence[Selection], *, batch_index: int) -> UpdateStats:
        """One update on the recorded pairs of these groups; the ranks read the latents from the run directory."""
        group_ids = [selection.group_id for selection in batch]
        answer = await self._execute({"kind": "update", "batch_index": batch_index, "group_ids": group_ids})
        return UpdateStats(**answer["stats"])

    async def update_reference(self) -> int:
        """Copies policy to reference on every rank; the new reference version."""
        await self._execute({"kind": "update_reference"})
        return self.reference_version

    async def save(self, folder: str) -> dict[str, str]:
        """Rank 0 writes its state into a folder; sha256 by file name."""
        answer = await self._execute({"kind": "save", "folder": folder})
        return dict(answer["files"])

    async def committed(self, position: int) -> None:
        """Keeps the commands since the commit before this one, should this one turn out to be unreadable."""
        before, self._oldest_kept = self._oldest_kept, position
        for known in [known for known in self._log if known < before]:
            del self._log[known]
        await self._ask(lambda: self._mailbox.forget.remote(before))

    async def stop(self) -> None:
        """Lets the ranks return, if they are up. Whoever does not is ended with the cluster."""
        if self.pids and not self._ended.done():
            self._mailbox.execute.remote({self.position: {"kind": "stop"}})
            await asyncio.wait([self._ended], timeout=STOP_LIMIT_S)
        if self._ended.done():
            self._ended.exception()  # it has been seen

    # -- the mailbox ---------------------------------------------------------------------------------------------

    async def _execute(self, command: Command) -> dict[str, Any]:
        """Gives a command its position and waits until every rank has done it; rank 0's answer."""
        async with self._turn:
            self._log[self.position] = command
            answer = await within(
                self._answer(), seconds=self._deadlines.update_s, waiting_for=f"the learner's {command['kind']}"
            )
            self.position += 1
            self.mailbox_pid = answer["mailbox"]
            first: dict[str, Any] = dict(answer["answers"][0])
            self._note(first, answer["pids"])
            return first

    async def _answer(self) -> dict[str, Any]:
        """Submits the newest command; all that are kept, if the mailbox turns out to have forgotten them."""
        newest = {self.position: self._log[self.position]}
        answer = await self._ask(lambda: self._mailbox.execute.remote(newest))
        if "missing" in answer:
            answer = await self._ask(lambda: self._mailbox.execute.remote(dict(self._log)))
        if "missing" in answer:
            raise PartError(
                f"the learner was restored to command {answer['missing']}, but only those from {min(self._log)} on are "
                "kept: the two newest commits cannot be read. Resume the run"
            )
        return answer

    async def _ask(self, call: Callable[[], Awaitable[Any]]) -> dict[str, Any]:
        """Calls the mailbox, again after each of its deaths, unless the ranks ended for good."""
        while True:
            asked = asyncio.ensure_future(call())
            await asyncio.wait([asked, self._ended], return_when=asyncio.FIRST_COMPLETED)
            if not asked.done():
                self._ended.result()
                await asyncio.wait([asked], timeout=STOP_LIMIT_S)  # the ranks returned: the mailbox knows why
            if not asked.done():
                asked.cancel()
                raise PartError("the learner's ranks returned before the run was over")
            try:
                answer = asked.result()
            except LOST as error:
                await self._await_mailbox(error)
                continue
            if answer is not None and "failure" in answer:
                raise rebuild(f"learner rank {answer['failure']['rank']}", answer["failure"])
            return answer or {}

    async def _await_mailbox(self, error: Exception) -> None:
        """Waits for a dead mailbox's next life."""
        self._mailbox_deaths += 1
        if self._mailbox_deaths > self._placement.max_restarts:
            raise PartError(f"the mailbox died {self._mailbox_deaths} times; its last words: {error}") from error

        async def alive() -> int:
            while True:
                try:
                    return int(await self._mailbox.pid.remote())
                except ActorDiedError as final:
                    raise PartError(f"the mailbox cannot start: {final}") from final
                except LOST:
                    await asyncio.sleep(0.05)

        self.mailbox_pid = await within(
            alive(), seconds=self._deadlines.recovery_s, waiting_for="the learner's mailbox to restart"
        )

    def _note(self, state: Mapping[str, Any], pids: list[int]) -> None:
        self.policy_version, self.reference_version = state["policy_version"], state["reference_version"]
        self.weights_hash, self.pids = state["weights_hash"], pids

    # -- Ray Train -----------------------------------------------------------------------------------------------

    def _build_trainer(self, settings: RankSettings, train_dir: Path, name: str) -> TorchTrainer:
        placement = self._placement
        resources = {"CPU": 1.0}
        if placement.gpus_per_learner_rank:
            resources["GPU"] = placement.gpus_per_learner_rank
        return _LeanTrainer(
            train_loop,
            train_loop_config={"settings": settings},
            torch_config=TorchConfig(backend="nccl" if placement.gpus_per_learner_rank else "gloo"),
            scaling_config=ScalingConfig(
                num_workers=placement.learner_ranks,
                use_gpu=bool(placement.gpus_per_learner_rank),
                resources_per_worker=resources,
            ),
            run_config=TrainRunConfig(
                name=name,
                storage_path=str(train_dir),
                failure_config=FailureConfig(max_failures=placement.max_restarts),
            ),
        )

    def _fit(self, loop: asyncio.AbstractEventLoop) -> None:
        """Runs in a thread until the ranks return or have died too often."""
        error: Exception | None = None
        try:
            self._trainer.fit()
        except (Exception, SystemExit) as raised:  # the latter when Ray is shut down under a waiting thread
            tails = "".join(map(self._log_tail, self.pids))
            error = PartError(
                f"the learner died more often than placement.max_restarts ({self._placement.max_restarts}) allows: "
                f"{raised}{tails}"
            )
            error.__cause__ = raised

        def end() -> None:
            if self._ended.done():
                return
            if error is None:
                self._ended.set_result(None)
            else:
                self._ended.set_exception(error)

        if not loop.is_closed():
            loop.call_soon_threadsafe(end)
