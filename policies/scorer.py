"""Scores candidates with a reward model in this process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from policies.rewards.model import Prepared, RewardModel
from policies.types import Candidate, Scored


class LocalScorer:
    """A `Scorer` of `online_vpo`.

    The candidates of one call are one forward of their own, so a group's numbers do not depend on what else is being
    scored. Whatever goes wrong with a candidate becomes the reason why it has no score; a score is never made up.

    Args:
        fps: frames per second, as the reward model is told.
    """

    def __init__(self, model: RewardModel, *, fps: float) -> None:
        self._model, self._fps = model, fps

    async def score(self, candidates: Sequence[Candidate]) -> list[Scored]:
        """Raw scores in the order of the candidates, which come back without their frames.

        Candidates with equal frames and prompt get equal scores to the last bit and so tie: a forward's rounding may
        differ between the rows of a batch.
        """
        prepared: dict[int, Prepared] = {}
        failures: dict[int, str] = {}
        for index, candidate in enumerate(candidates):
            # Exception rather than a list of classes: a model fails in ways of its own, and a bad video should cost a
            # candidate, not the run
            try:
                prepared[index] = self._prepare(candidate)
            except Exception as error:
                failures[index] = _reason(error)
        scores: dict[int, Mapping[str, float]] = {}
        if prepared:
            try:
                scores = dict(zip(prepared, self._forward(list(prepared.values())), strict=True))
            except Exception as error:
                reason = f"scoring {len(prepared)} candidates at once failed: {_reason(error)}"
                failures |= dict.fromkeys(prepared, reason)
        original = _first_of_equals({index: candidates[index] for index in scores})
        return [
            _failed(candidate, failures[index]) if index in failures else _scored(candidate, scores[original[index]])
            for index, candidate in enumerate(candidates)
        ]

    def _prepare(self, candidate: Candidate) -> Prepared:
        if not isinstance(candidate.frames, np.ndarray):
            raise TypeError(f"candidate {candidate.seed} carries {type(candidate.frames).__name__} instead of frames")
        return self._model.prepare(candidate.frames, candidate.prompt.text, self._fps)

    def _forward(self, prepared: Sequence[Prepared]) -> list[Mapping[str, float]]:
        rows = self._model.score(prepared).tolist()
        return [dict(zip(self._model.dimensions, row, strict=True)) for row in rows]


def _scored(candidate: Candidate, scores: Mapping[str, float]) -> Scored:
    scored = Scored(candidate=replace(candidate, frames=None), scores=scores)
    return scored if scored.is_valid else _failed(candidate, f"the reward model gave {dict(scores)}")


def _failed(candidate: Candidate, reason: str) -> Scored:
    return Scored(candidate=replace(candidate, frames=None), scores={}, failure=reason)


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _first_of_equals(candidates: Mapping[int, Candidate]) -> dict[int, int]:
    """For each index the first index whose prompt and frames are equal; mostly its own."""
    first: dict[int, int] = {}
    for index, candidate in candidates.items():
        equals = (other for other in set(first.values()) if _same_video(candidates[other], candidate))
        first[index] = min(equals, default=index)
    return first


def _same_video(one: Candidate, other: Candidate) -> bool:
    if one.prompt.text != other.prompt.text or one.frames.shape != other.frames.shape:
        return False
    # most videos differ in their first frame already, which spares comparing all of them
    return np.array_equal(one.frames[:1], other.frames[:1]) and np.array_equal(one.frames, other.frames)
