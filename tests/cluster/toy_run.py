"""The loop over toy parts, with commits, on Ray or in this process.

python -m tests.cluster.toy_run RUN_DIR UPDATES
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np

from cluster.config import RunConfig
from cluster.groups import RecordedGroups, read_pair
from cluster.latents import write_latents
from cluster.phases import PhaseClock
from cluster.run_directory import RunDirectory
from policies.online_vpo import LoopPlan, PromptBatch, run_online_vpo
from policies.types import (
    Group,
    Pair,
    Prompt,
    SampleRequest,
    Sampling,
    Scored,
    Selection,
    Update,
    UpdateStats,
    VideoShape,
)
from tests.cluster.toy_parts import FACTORIES

COMMIT_INTERVAL = 4
SHAPE = VideoShape(num_frames=9, height=32, width=32)
SAMPLING = Sampling(num_inference_steps=1, guidance_scale=1.0, max_sequence_length=8)
PLAN = LoopPlan(run_seed=7, candidates_per_prompt=4, reference_update_interval=3, is_online=True, sampling=SAMPLING,
                shape=SHAPE)  # fmt: skip


def toy_config(path: str = "toy", **sections: Any) -> RunConfig:
    """A configuration of which the toy parts need little."""
    sampling = {"num_inference_steps": 1, "num_frames": 9, "height": 32, "width": 32, "candidates_per_slice": 2}
    base: dict[str, Any] = {"policy": {"path": path}, "prompts": {"train": "none.txt"}, "sampling": sampling}
    return RunConfig.model_validate(base | sections)


class Brightest:
    """The brightest and the darkest candidate make the pair."""

    def select(self, request: SampleRequest, scored: list[Scored]) -> Pair:
        rewards = tuple(one.scores["brightness"] for one in scored)
        group = Group(group_id=request.group_id, prompt=request.prompt, members=tuple(scored), rewards=rewards)
        return Pair(group=group, chosen=rewards.index(max(rewards)), rejected=rewards.index(min(rewards)))


class InThisProcess:
    """The toy parts without Ray: what every run on Ray must equal."""

    def __init__(self, config: RunConfig, run_dir: Path) -> None:
        self.generator, self.scorer = FACTORIES.generator(config, run_dir), FACTORIES.scorer(config)
        self._part = FACTORIES.learner(config, run_dir, 0, 1, None)
        self._directory = RunDirectory(run_dir)
        self._part.publish()
        self.learner: Any = self
        self.position = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._part, name)

    async def update(self, batch: list[Selection], *, batch_index: int) -> UpdateStats:
        pairs = [read_pair(self._directory, pair.group_id) for pair in batch]
        stats = await self._part.update(pairs, batch_index=batch_index)
        self._part.publish()
        return stats

    async def save(self, folder: str) -> dict[str, str]:
        return self._part.save(Path(folder))

    async def committed(self, position: int) -> None: ...

    async def reward_model(self) -> dict[str, Any]:
        return self.scorer.describe()

    async def write_latents(self, path: Path, chosen: np.ndarray, rejected: np.ndarray) -> str:
        return write_latents(path, chosen, rejected)


def summary(update: Update) -> dict[str, Any]:
    """What must not depend on where a run ran, or on what died."""
    assert update.stats.loss is not None
    pairs = [outcome for outcome in update.outcomes if isinstance(outcome, Pair)]
    return {
        "update": update.batch_index,
        "pairs": [[pair.group_id, pair.chosen, pair.rejected] for pair in pairs],
        "loss_hex": update.stats.loss.hex(),
        "reference_version": update.stats.reference_version,
        "weights_hash": update.stats.weights_hash,
    }


async def toy_run(
    placement: Any, run_dir: Path, *, updates: int, after: Callable[[int], Awaitable[None]] | None = None
) -> list[dict[str, Any]]:
    """Runs from the newest commit; `after` is called between updates."""
    directory, learner = RunDirectory(run_dir), placement.learner
    hashes = {0: directory.weights_hash(0), learner.policy_version: learner.weights_hash}
    groups = RecordedGroups(
        placement.generator, placement.scorer, Brightest(), directory=directory,
        reward_model=await placement.reward_model(),
        write_latents=placement.write_latents, weights_hash=hashes.__getitem__, clock=PhaseClock(),
    )  # fmt: skip
    prompts = tuple(Prompt(id=f"p{slot}", text=f"prompt {slot}") for slot in range(3))
    batches = [PromptBatch(index=index, prompts=prompts) for index in range(learner.policy_version, updates)]
    lines = []
    async for update in run_online_vpo(
        batches, generator=groups, scorer=groups, selector=groups, learner=learner, plan=PLAN
    ):
        hashes[learner.policy_version] = learner.weights_hash
        lines.append(summary(update))
        if learner.policy_version % COMMIT_INTERVAL == 0:
            await commit(learner, directory)
        if after is not None:
            await after(update.batch_index)
    return lines


async def commit(learner: Any, directory: RunDirectory) -> None:
    """Saves the state and makes it count."""
    version = learner.policy_version
    files = await learner.save(str(directory.checkpoint_folder(version)))
    made = directory.commit(
        update=version, position=learner.position, reference_version=learner.reference_version,
        weights_hash=learner.weights_hash, files=files, group_ids=[],
    )  # fmt: skip
    await learner.committed(made.position)


async def main(run_dir: Path, updates: int) -> None:
    """One run on a Ray of its own; a line per update, the first line says that everything is up."""
    from cluster.split import SplitPlacement

    commit_before = RunDirectory(run_dir).newest_commit()
    RunDirectory(run_dir).void_after(commit_before.update if commit_before else -1)
    placement = await SplitPlacement.start(toy_config(), run_dir, factories=FACTORIES)

    async def tell(index: int) -> None:
        print(index, flush=True)

    try:
        print(json.dumps(placement.pids()), flush=True)
        lines = await toy_run(placement, run_dir, updates=updates, after=tell)
        print(json.dumps(lines), flush=True)
    finally:
        await placement.close()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))
