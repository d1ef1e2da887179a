"""The exact scorer: the bars of the world, on seeds that it was not tuned on, and its edges."""

from dataclasses import fields
from itertools import pairwise

import numpy as np
import pytest

from policies.shapes.prompts import ALL_PROMPTS, VALUES
from policies.shapes.truth import (
    TruthScores,
    match_energy,
    pixel_diversity,
    position_diversity_px,
    score_clip,
    score_clips,
)
from policies.shapes.world import Corruption, render, render_batch

PROMPTS = ALL_PROMPTS * 2


def means(corruption: Corruption, seed: int) -> dict[str, float]:
    clips = render_batch(PROMPTS, np.random.default_rng(seed), [corruption] * len(PROMPTS))
    scores = score_clips(clips, PROMPTS)
    return {part.name: float(np.mean([getattr(score, part.name) for score in scores])) for part in fields(TruthScores)}


CLEAN = means(Corruption(), seed=9001)


def test_clean_clips_score_at_least_090() -> None:
    assert min(CLEAN["vq"], CLEAN["mq"], CLEAN["ta"]) >= 0.90
    assert min(CLEAN["colour"], CLEAN["shape"], CLEAN["direction"], CLEAN["speed"]) >= 0.97


@pytest.mark.parametrize("damaged", ["visual", "motion"])
def test_severity_one_half_damages_its_own_dimension_only(damaged: str) -> None:
    scores = means(Corruption(**{damaged: 0.5}), seed=9002)
    own = {"visual": "vq", "motion": "mq"}[damaged]
    assert scores[own] <= 0.45
    assert all(abs(scores[name] - CLEAN[name]) < 0.10 for name in ("vq", "mq", "ta") if name != own)


@pytest.mark.slow
@pytest.mark.parametrize("damaged", ["visual", "motion"])
def test_worse_faults_score_lower(damaged: str) -> None:
    own = {"visual": "vq", "motion": "mq"}[damaged]
    falling = [means(Corruption(**{damaged: severity}), seed=9003)[own] for severity in (0.0, 0.25, 0.5, 1.0)]
    assert all(worse < better - 0.05 for better, worse in pairwise(falling))


def test_all_attributes_wrong_leaves_no_text_alignment() -> None:
    scores = means(Corruption(wrong=tuple(VALUES)), seed=9004)
    assert scores["ta"] <= 0.10
    assert abs(scores["vq"] - CLEAN["vq"]) < 0.10
    assert abs(scores["mq"] - CLEAN["mq"]) < 0.10


@pytest.mark.parametrize("name", VALUES)
def test_one_wrong_attribute_costs_its_part_alone(name: str) -> None:
    scores = means(Corruption(wrong=(name,)), seed=9005)
    assert scores[name] <= 0.10
    assert all(scores[part] >= 0.97 for part in VALUES if part != name)


def test_one_clip_scores_as_in_a_batch() -> None:
    clips = render_batch(PROMPTS[:5], np.random.default_rng(0), [Corruption(visual=0.4, motion=0.4)] * 5)
    batch = score_clips(clips, PROMPTS[:5])
    for clip, prompt, scores in zip(clips, PROMPTS, batch, strict=False):
        alone = score_clip(clip, prompt)
        assert alone.ground_truth == pytest.approx(scores.ground_truth, abs=1e-5)


def test_ground_truth_is_the_mean_of_its_three_dimensions() -> None:
    scores = score_clip(render(PROMPTS[3], np.random.default_rng(0), Corruption(visual=0.3)), PROMPTS[3])
    assert scores.ground_truth == pytest.approx((scores.vq + scores.mq + scores.ta) / 3, abs=1e-6)
    assert scores.ta == pytest.approx((scores.colour + scores.shape + scores.direction + scores.speed) / 4, abs=1e-6)


@pytest.mark.parametrize("value", [0, 128, 255])
def test_an_empty_picture_scores_low_and_finite(value: int) -> None:
    scores = score_clip(np.full((9, 32, 32, 3), value, np.uint8), PROMPTS[0])
    assert 0 <= scores.ground_truth < 0.3
    assert scores.mq < 0.05


def test_a_frozen_clip_has_no_motion_quality() -> None:
    clip = render("a blue square moving up quickly", np.random.default_rng(0))
    assert score_clip(np.repeat(clip[4:5], 9, axis=0), "a blue square moving up quickly").mq < 0.05


def test_noise_scores_low() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (8, 9, 32, 32, 3), dtype=np.uint8)
    assert max(score.ground_truth for score in score_clips(noise, PROMPTS[:8])) < 0.45


def test_a_dimmer_clip_matched_to_the_base_is_the_base_again() -> None:
    clip = render(PROMPTS[0], np.random.default_rng(0))
    matched = match_energy((clip * 0.6).astype(np.uint8), clip)
    assert (matched.astype(float) ** 2).mean() == pytest.approx((clip.astype(float) ** 2).mean(), rel=0.03)
    black = np.zeros_like(clip)
    assert np.array_equal(match_energy(black, clip), black)


def test_diversity_is_zero_for_copies_and_knows_places() -> None:
    rng = np.random.default_rng(0)
    copies = np.repeat(render(PROMPTS[0], rng)[None], 4, axis=0)
    assert pixel_diversity(copies) == 0
    assert position_diversity_px(copies) == pytest.approx(0, abs=1e-4)
    clips = render_batch([PROMPTS[0]] * 64, rng)
    assert 0.9 < position_diversity_px(clips) < 1.4  # places are drawn from +-2 px


def test_wrong_input_is_refused_with_what_is_expected() -> None:
    clip = render(PROMPTS[0], np.random.default_rng(0))
    with pytest.raises(ValueError, match="float32 of shape"):
        score_clip(clip.astype(np.float32), PROMPTS[0])
    with pytest.raises(ValueError, match=r"\(9, 32, 32, 3\)"):
        score_clip(clip[:5], PROMPTS[0])
    with pytest.raises(ValueError, match="1 clips but 2 prompts"):
        score_clips(clip[None], list(PROMPTS[:2]))
    with pytest.raises(ValueError, match="not of the moving-shapes world"):
        score_clip(clip, "a dog")


def test_no_clip_gives_no_score() -> None:
    assert score_clips(np.zeros((0, 9, 32, 32, 3), np.uint8), []) == []
