"""Generator, scorer and learner without a model, but with real state: weights decide the samples, samples move the
weights. Importable by Ray workers as `tests.cluster.toy_parts`."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cluster.config import RunConfig
from cluster.factories import AllReduce, Factories
from cluster.run_directory import RunDirectory, sha256, write_atomic, write_json
from policies.errors import InputError
from policies.types import Candidate, SampleRequest, Scored, Selection, UpdateStats

LATENT = (4, 3, 8, 8)
FRAMES = (9, 32, 32, 3)


def digest(weights: np.ndarray) -> str:
    return hashlib.sha256(weights.tobytes()).hexdigest()


class ToyGenerator:
    """Draws noise around the mean of the weights it was asked for."""

    def __init__(self, config: RunConfig, run_dir: Path) -> None:
        self._weights = RunDirectory(run_dir).weights
        if "broken-generator" in config.policy.path:
            raise InputError("policy.path holds no model; name a folder that does")

    async def sample(self, request: SampleRequest) -> list[Candidate]:
        if request.prompt.text == "bug":
            raise KeyError("no such token")
        if request.prompt.text == "hang":
            time.sleep(3600)
        weights = np.load(self._weights / f"{request.policy_version:06d}" / "weights.npy")
        return [self._draw(request, seed, weights) for seed in request.seeds]

    def _draw(self, request: SampleRequest, seed: int, weights: np.ndarray) -> Candidate:
        latents = np.random.default_rng(seed).standard_normal(LATENT, np.float32) + np.float32(weights.mean())
        frames = np.full(FRAMES, np.clip(128 + 32 * latents.mean() * 100, 0, 255), np.uint8)
        return Candidate(
            group_id=request.group_id,
            prompt=request.prompt,
            shape=request.shape,
            seed=seed,
            policy_version=request.policy_version,
            weights_hash=digest(weights),
            latents=latents,
            frames=frames,
        )


class ToyScorer:
    """Likes bright videos."""

    def __init__(self, config: RunConfig) -> None:
        if "broken-scorer" in config.policy.path:
            raise InputError("reward.path holds no model; name a folder that does")

    def describe(self) -> dict[str, Any]:
        return {
            "name": "brightness",
            "revision": "1",
            "files": {"model": "0"},
            "dimensions": ["brightness"],
            "own_scale": None,
        }

    async def score(self, candidates: Sequence[Candidate]) -> list[Scored]:
        if candidates[0].prompt.text == "unscorable":
            raise ValueError("frames are too dark")
        if candidates[0].prompt.text == "slow":
            time.sleep(3600)
        return [
            Scored(candidate=c, scores={"brightness": float(c.frames.mean()) + (c.seed % 1000) / 1e6})
            for c in candidates
        ]


class ToyLearner:
    """Moves its weights towards what was chosen and away from what was rejected."""

    def __init__(self, config: RunConfig, run_dir: Path, rank: int, world_size: int, all_reduce: AllReduce | None):
        if "broken-learner" in config.policy.path:
            raise InputError("policy.lora.targets match nothing; name modules that exist")
        self._directory = RunDirectory(run_dir)
        self._rank, self._world_size, self._all_reduce = rank, world_size, all_reduce
        self._weights = np.zeros(16)
        self._reference = self._weights.copy()
        self.policy_version = self.reference_version = 0

    @property
    def weights_hash(self) -> str:
        return digest(self._weights)

    async def update(self, batch: Sequence[Selection], *, batch_index: int) -> UpdateStats:
        assert batch_index == self.policy_version, (batch_index, self.policy_version)
        mine = batch[self._rank :: self._world_size]
        total = np.zeros(16)
        for pair in mine:
            difference = pair.chosen_candidate.latents - pair.rejected_candidate.latents
            total += difference.reshape(16, -1).mean(1, dtype=np.float64)
        if self._all_reduce is not None:
            import torch

            tensor = torch.from_numpy(total)
            self._all_reduce(tensor)
        loss = float(np.square(self._weights - self._reference).sum() + total.sum())
        self._weights = self._weights + 0.1 * total / max(len(batch), 1)
        self._stats = UpdateStats(
            batch_index=batch_index,
            policy_version=self.policy_version,
            reference_version=self.reference_version,
            loss=loss,
            metrics={"norm": float(np.linalg.norm(total))},
            weights_hash=self.weights_hash,
        )
        self.policy_version += 1
        return self._stats

    async def update_reference(self) -> int:
        self._reference = self._weights.copy()
        self.reference_version = self.policy_version
        return self.reference_version

    def publish(self) -> None:
        folder = self._directory.weights / f"{self.policy_version:06d}"
        folder.mkdir(parents=True, exist_ok=True)
        temporary = folder / f".weights.{os.getpid()}.npy"
        np.save(temporary, self._weights)
        os.replace(temporary, folder / "weights.npy")
        write_json(folder / "manifest.json", {"hash": self.weights_hash})

    def save(self, folder: Path) -> dict[str, str]:
        state = {
            "weights": self._weights.tolist(),
            "reference": self._reference.tolist(),
            "policy_version": self.policy_version,
            "reference_version": self.reference_version,
        }
        write_atomic(folder / "state.json", json.dumps(state).encode())
        return {"state.json": sha256(folder / "state.json")}

    def restore(self, folder: Path) -> None:
        state = json.loads((folder / "state.json").read_text())
        self._weights, self._reference = np.array(state["weights"]), np.array(state["reference"])
        self.policy_version, self.reference_version = state["policy_version"], state["reference_version"]


FACTORIES = Factories(generator=ToyGenerator, scorer=ToyScorer, learner=ToyLearner)
