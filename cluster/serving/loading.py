"""What a replica of a service loads in its own process, and does in its thread."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import torch

from cluster.described_scorer import DescribedScorer
from cluster.errors import ReplicaBrokenError
from cluster.serving.batch_scorer import BatchScorer
from cluster.serving.deployment import Deployment
from cluster.serving.values import BatchResult, Failure, FailureCode, ScoreItem
from policies.rewards.model import RewardModel, load_reward_model
from policies.types import Candidate, Scored


def reward_model(deployment: Deployment) -> RewardModel:
    """The model that the deployment's section names; without a device of its own, on a GPU if one is reserved."""
    return load_reward_model(deployment.reward, device="cuda" if deployment.gpus_per_replica else "cpu")


class ModelWork:
    """A service's reward model: for batches of callers, and for the groups of runs that share it."""

    def __init__(self, deployment: Deployment) -> None:
        torch.set_num_threads(deployment.torch_threads)
        self._deployment, self._model = deployment, deployment.build(deployment)
        self._batches = BatchScorer(self._model, name=deployment.name, dtype=deployment.reward.dtype)
        self._loop = asyncio.new_event_loop()

    def describe(self) -> dict[str, Any]:
        """What is loaded, and the section of the configuration that it was loaded from."""
        described = DescribedScorer(self._model, fps=1).describe()
        return {**described, "facts": self._batches.facts, "reward": self._deployment.reward.model_dump(mode="json")}

    def run(self, items: Sequence[ScoreItem]) -> BatchResult:
        """Scores a batch. Raises ReplicaBrokenError when its GPU has failed, so that the batch goes elsewhere."""
        done = self._batches.run(items)
        if any(isinstance(one, Failure) and one.code == FailureCode.MODEL_FAILED for one in done.results):
            self._check_device()
        return done

    def _check_device(self) -> None:
        """A GPU that has met an illegal address or the like fails every call from then on."""
        if self._deployment.gpus_per_replica:
            try:
                torch.cuda.synchronize()
            except RuntimeError as error:
                raise ReplicaBrokenError(f"its GPU has failed: {error}") from error

    def score(self, candidates: Sequence[Candidate], fps: float) -> list[Scored]:
        """Scores a group as a run's own replica would."""
        return self._loop.run_until_complete(DescribedScorer(self._model, fps=fps).score(candidates))
