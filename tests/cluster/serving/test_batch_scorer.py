"""Batches through a loaded model: what goes wrong with an item stays with that item."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
import torch

from cluster.serving.batch_scorer import BatchScorer
from cluster.serving.values import Failure, FailureCode, ScoreItem, Scores
from policies.config import ShapesRewardConfig
from policies.errors import InputError
from policies.rewards.model import load_reward_model

PROMPT = "a red circle moving left slowly"


def item(prompt: str = PROMPT, seed: int = 0) -> ScoreItem:
    frames = np.random.default_rng(seed).integers(0, 256, (9, 32, 32, 3), dtype=np.uint8)
    return ScoreItem(prompt=prompt, frames_FHWC=frames, fps=8.0)


@pytest.fixture(scope="module")
def scorer() -> BatchScorer:
    return BatchScorer(load_reward_model(ShapesRewardConfig(), device="cpu"), name="shapes", dtype="float32")


def test_a_prompt_that_the_model_refuses_costs_only_its_own_item_and_is_not_quoted(scorer: BatchScorer) -> None:
    good, bad, other = scorer.run([item(seed=1), item("a zebra moving left slowly"), item(seed=2)]).results
    assert isinstance(good, Scores) and isinstance(other, Scores)
    assert isinstance(bad, Failure) and bad.code is FailureCode.INPUT_REFUSED
    assert "zebra" not in bad.detail
    assert scorer.run([item(seed=2)]).results == (other,)


def test_a_batch_of_refused_items_is_answered_without_a_forward(scorer: BatchScorer) -> None:
    assert [result.code for result in scorer.run([item("no"), item("nor this")]).results] == [  # type: ignore[union-attr]
        FailureCode.INPUT_REFUSED
    ] * 2


class Moody:
    """A model that fails when a prompt says so."""

    name, revision, dimensions, own_scale = "moody", "1", ("good",), None

    def __init__(self) -> None:
        self.files: Mapping[str, str] = {}

    def prepare(self, frames_FHWC: np.ndarray, prompt: str, fps: float) -> str:
        if prompt == "refused":
            raise InputError("the prompt 'refused' is refused", public="Such prompts are refused.")
        if prompt == "breaks":
            raise RuntimeError("inside")
        return prompt

    def score(self, inputs: Sequence[str]) -> torch.Tensor:
        if "poison" in inputs:
            raise RuntimeError("CUDA error")
        return torch.tensor([[float(text)] for text in inputs])

    def overall(self, normalised: Mapping[str, float]) -> float:
        return 2 * normalised["good"]


def moody() -> BatchScorer:
    model: Any = Moody()
    return BatchScorer(model, name="mine", dtype="float32")


def test_an_item_that_breaks_a_forward_is_found_and_its_neighbours_are_scored() -> None:
    first, second, third = moody().run([item("1"), item("poison"), item("3")]).results
    assert first == Scores(raw={"good": 1.0}, normalised={"good": 1.0}, reward=2.0)
    assert isinstance(second, Failure) and second.code is FailureCode.MODEL_FAILED
    assert isinstance(third, Scores) and third.reward == 6.0


def test_a_score_that_is_not_finite_is_a_failure() -> None:
    results = moody().run([item("nan"), item("inf"), item("-1")]).results
    assert [getattr(result, "code", None) for result in results] == [
        FailureCode.NON_FINITE,
        FailureCode.NON_FINITE,
        None,
    ]


def test_a_refusal_says_what_the_model_made_public_of_it_and_nothing_else() -> None:
    refused, broken = moody().run([item("refused"), item("breaks")]).results
    assert refused == Failure(code=FailureCode.INPUT_REFUSED, detail="Such prompts are refused.")
    assert isinstance(broken, Failure) and "inside" not in broken.detail
