"""The values between whoever wants videos scored and whoever runs a reward model. No torch and no Ray in here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, TypeAlias

import numpy as np


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreItem:
    """One video with its prompt: frames uint8 (F, H, W, 3), `fps` of them a second."""

    prompt: str
    frames_FHWC: np.ndarray
    fps: float

    @property
    def pixels(self) -> int:
        """F * H * W: what budgets count."""
        frames, height, width, _ = self.frames_FHWC.shape
        return int(frames * height * width)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """What a model gave, by dimension; every number is finite."""

    raw: Mapping[str, float]
    normalised: Mapping[str, float]
    reward: float


class FailureCode(StrEnum):
    """Why an item has no scores."""

    INPUT_REFUSED = "input_refused"
    NON_FINITE = "non_finite_score"
    MODEL_FAILED = "model_failed"
    MODEL_UNAVAILABLE = "model_unavailable"
    DEADLINE_PASSED = "deadline_passed"

    @property
    def is_retryable(self) -> bool:
        """Whether the same item may be scored if it is sent again."""
        return self in (FailureCode.MODEL_UNAVAILABLE, FailureCode.DEADLINE_PASSED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """`detail` is one sentence for the caller, with nothing in it that came from outside."""

    code: FailureCode
    detail: str


Result: TypeAlias = Scores | Failure


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """What a deployed model is. `name` is the deployment's, `model` the reward model's own."""

    name: str
    model: str
    revision: str
    files: Mapping[str, str]
    dimensions: tuple[str, ...]
    dtype: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchResult:
    """One result per item, in their order; `facts` are those of the replica that ran them."""

    results: tuple[Result, ...]
    facts: ModelFacts
    inference_ms: float


class Forward(Protocol):
    """A deployed model that runs a batch as one call."""

    @property
    def facts(self) -> ModelFacts:
        """What the model is, as far as is known now."""
        ...

    @property
    def replicas(self) -> int:
        """How many replicas could take a batch now."""
        ...

    async def run(self, items: Sequence[ScoreItem], *, deadline: float) -> BatchResult:
        """Scores a batch, with as many tries as fit before `deadline` (of time.monotonic()).

        Never raises for a batch that fails: its items then carry a Failure each.
        """
        ...
