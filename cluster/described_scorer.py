"""A local scorer that can say what it scores with. Apart from the other parts of a run, which need diffusers."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from policies.rewards.model import RewardModel
from policies.scorer import LocalScorer


class DescribedScorer(LocalScorer):
    """A local scorer that can say what it scores with."""

    def __init__(self, model: RewardModel, *, fps: float) -> None:
        super().__init__(model, fps=fps)
        self._described = {
            "name": model.name,
            "revision": model.revision,
            "files": dict(model.files),
            "dimensions": list(model.dimensions),
            "own_scale": None if model.own_scale is None else asdict(model.own_scale),
        }

    def describe(self) -> dict[str, Any]:
        """Name, revision, files with their hashes, dimensions and own scale of the reward model."""
        return self._described
