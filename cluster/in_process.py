"""The whole run in one process, without Ray: for laptops and tests, and the reference for equality and overhead."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cluster.config import RunConfig
from cluster.described_scorer import DescribedScorer
from cluster.groups import read_pair
from cluster.latents import write_latents
from cluster.parts import LearnerPart, build_learner, embed_prompts, set_threads
from cluster.run_directory import RunDirectory
from policies.errors import WeightsMismatchError
from policies.generator import LocalGenerator
from policies.load import load_policy
from policies.rewards.model import load_reward_model
from policies.types import Handle, Pair, Selection, UpdateStats
from policies.weights import MemoryWeights, WeightDirectory


class PublishedWeights:
    """Versions from memory, where the newest are, or from the run directory: a test may ask for the best, long past."""

    def __init__(self, memory: MemoryWeights, directory: WeightDirectory) -> None:
        self._memory, self._directory = memory, directory

    def read(self, version: int) -> tuple[dict[str, Tensor], str]:
        try:
            return self._memory.read(version)
        except WeightsMismatchError:
            return self._directory.read(version)


class InProcessLearner:
    """A learner that publishes to memory after every update, and to the run directory when it is saved."""

    def __init__(self, part: LearnerPart, directory: RunDirectory) -> None:
        self._part, self._directory = part, directory
        self.weights = MemoryWeights()
        self.weights.publish(0, part.export())
        self.position = 0
        commit = directory.newest_commit()
        if commit is not None:
            part.restore(commit.folder)
            self.position = commit.position
            if commit.update:
                self.weights.publish(commit.update, part.export())

    @property
    def policy_version(self) -> int:
        return self._part.policy_version

    @property
    def reference_version(self) -> int:
        return self._part.reference_version

    @property
    def weights_hash(self) -> str:
        return self._part.weights_hash

    async def update(self, batch: Sequence[Selection], *, batch_index: int) -> UpdateStats:
        pairs = [pair if _has_latents(pair) else read_pair(self._directory, pair.group_id) for pair in batch]
        stats = await self._part.update(pairs, batch_index=batch_index)
        self.weights.publish(self.policy_version, self._part.export())
        self.position += 1
        return stats

    async def update_reference(self) -> int:
        self.position += 1
        return await self._part.update_reference()

    async def save(self, folder: str) -> dict[str, str]:
        """Writes the learner's state, and the current weights where anybody can load them."""
        self._part.publish()
        return self._part.save(Path(folder))

    async def committed(self, position: int) -> None:
        """Nothing to forget: there is no log of commands."""


class InProcessPlacement:
    """Generator, scorer and learner in this process, on one copy of the model."""

    def __init__(self, config: RunConfig, run_dir: Path) -> None:
        set_threads(config)
        policy = load_policy(config.policy, seed=config.seed)
        embed_prompts(policy, config)
        self.learner = InProcessLearner(build_learner(config, run_dir, policy), RunDirectory(run_dir))
        weights = PublishedWeights(self.learner.weights, WeightDirectory(RunDirectory(run_dir).weights))
        self.generator = LocalGenerator(policy, weights, candidates_per_slice=config.sampling.candidates_per_slice)
        self.scorer = DescribedScorer(
            load_reward_model(config.reward, device=config.policy.device), fps=config.sampling.fps
        )

    @classmethod
    async def start(cls, config: RunConfig, run_dir: Path) -> InProcessPlacement:
        """Loads everything; nothing has to be waited for."""
        return cls(config, run_dir)

    async def reward_model(self) -> dict[str, Any]:
        """Name, revision, files, dimensions and own scale of the reward model in use."""
        return self.scorer.describe()

    async def write_latents(self, path: Path, chosen: Handle, rejected: Handle) -> str:
        """Writes a pair's latents atomically; returns the file's sha256."""
        return write_latents(path, _array(chosen), _array(rejected))

    async def fetch(self, handle: Handle) -> np.ndarray:
        """The array behind a handle."""
        return _array(handle)

    def pids(self) -> dict[str, Any]:
        """Process ids by role: all the same here."""
        return {"generators": [os.getpid()], "scorer": [os.getpid()], "learner": [os.getpid()]}

    async def close(self) -> None:
        """Nothing to end."""


def _array(handle: Handle) -> np.ndarray:
    return handle.detach().cpu().numpy() if isinstance(handle, torch.Tensor) else np.asarray(handle)


def _has_latents(pair: Pair) -> bool:
    return pair.chosen_candidate.latents is not None and pair.rejected_candidate.latents is not None
