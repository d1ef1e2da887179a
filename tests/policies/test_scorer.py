import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from policies.scorer import LocalScorer
from policies.types import Candidate
from tests.policies.pairs import candidate


class BrightnessReward:
    """Mean brightness, and the frame rate it was told; refuses clips of one frame, is NaN on black ones."""

    name, revision = "brightness", "1"
    dimensions: tuple[str, ...] = ("bright", "fps")

    def __init__(self, *, jitter: float = 0.0, crash: str = "") -> None:
        self._jitter, self._crash = jitter, crash
        self.forwards: list[int] = []

    def prepare(self, frames_FHWC: np.ndarray, prompt: str, fps: float) -> tuple[Tensor, float]:
        if len(frames_FHWC) == 1:
            raise ValueError("one frame is no video")
        return torch.tensor(frames_FHWC).float() / 255, fps

    def score(self, inputs: Sequence[tuple[Tensor, float]]) -> Tensor:
        self.forwards.append(len(inputs))
        if self._crash:
            raise RuntimeError(self._crash)
        rows = [[frames.mean().item(), fps] for frames, fps in inputs]
        rows = [[math.nan if bright == 0 else bright + i * self._jitter, fps] for i, (bright, fps) in enumerate(rows)]
        return torch.tensor(rows, dtype=torch.float32)

    def score_frames(self, frames_BFHWC: Tensor, prompts: Sequence[str]) -> Tensor:
        raise NotImplementedError


def clip(brightness: int, *, frames: int = 3) -> np.ndarray:
    return np.full((frames, 4, 4, 3), brightness, np.uint8)


def candidates(*frames: object) -> list[Candidate]:
    return [candidate("latents", seed=i, frames=f) for i, f in enumerate(frames)]


async def test_scores_come_in_order_from_one_forward_and_without_the_frames() -> None:
    model = BrightnessReward()
    drawn = candidates(clip(51), clip(204), clip(102))
    scored = await LocalScorer(model, fps=12.0).score(drawn)
    assert [s.scores["bright"] for s in scored] == [torch.tensor(x).item() for x in (0.2, 0.8, 0.4)]
    assert {s.scores["fps"] for s in scored} == {12.0}
    assert model.forwards == [3]
    assert [s.candidate.seed for s in scored] == [0, 1, 2]
    assert all(s.candidate.frames is None and s.candidate.latents == "latents" for s in scored)


async def test_a_candidate_that_cannot_be_prepared_fails_alone_with_the_reason() -> None:
    model = BrightnessReward()
    scored = await LocalScorer(model, fps=8).score(candidates(clip(51), clip(9, frames=1), None, clip(204)))
    assert [s.is_valid for s in scored] == [True, False, False, True]
    assert scored[1].failure == "ValueError: one frame is no video"
    assert "carries NoneType instead of frames" in (scored[2].failure or "")
    assert scored[1].scores == {} and scored[1].candidate.frames is None
    assert model.forwards == [2]


async def test_a_score_that_is_not_finite_is_absent_and_never_zero() -> None:
    scored = await LocalScorer(BrightnessReward(), fps=8).score(candidates(clip(0), clip(51)))
    assert not scored[0].is_valid and scored[0].scores == {}
    assert "nan" in (scored[0].failure or "")
    assert scored[1].is_valid


async def test_a_forward_that_fails_fails_each_of_its_candidates() -> None:
    scorer = LocalScorer(BrightnessReward(crash="out of memory"), fps=8)
    scored = await scorer.score(candidates(clip(51), clip(9, frames=1)))
    assert scored[0].failure == "scoring 1 candidates at once failed: RuntimeError: out of memory"
    assert scored[1].failure == "ValueError: one frame is no video"


async def test_nothing_is_forwarded_when_nothing_can_be_scored() -> None:
    model = BrightnessReward()
    assert await LocalScorer(model, fps=8).score([]) == []
    assert [s.is_valid for s in await LocalScorer(model, fps=8).score(candidates(None, None))] == [False, False]
    assert model.forwards == []


async def test_equal_videos_tie_though_rows_of_a_forward_differ_in_rounding() -> None:
    scorer = LocalScorer(BrightnessReward(jitter=1e-6), fps=8)
    scored = await scorer.score(candidates(clip(51), None, clip(51), clip(52), clip(51), clip(52)))
    bright = [s.scores.get("bright") for s in scored]
    assert bright[0] == bright[2] == bright[4] and bright[3] == bright[5] != bright[0]
    other_prompt = candidate("latents", text="another prompt", frames=clip(51))
    first, second = await scorer.score([*candidates(clip(51)), other_prompt])
    assert first.scores != second.scores
