import math

import numpy as np
import pytest

from cluster.evaluation import EvaluationPlan, Sample, compare, mean_reward, pixel_diversity
from policies.shapes import truth, world
from policies.shapes.prompts import TEST_PROMPTS
from policies.types import Prompt, Sampling, VideoShape

PLAN = EvaluationPlan(
    seed=5,
    samples_per_prompt=3,
    shape=VideoShape(num_frames=9, height=32, width=32),
    sampling=Sampling(num_inference_steps=6, guidance_scale=1.0, max_sequence_length=8),
)
PROMPTS = [Prompt(id=f"p{index}", text=text) for index, text in enumerate(TEST_PROMPTS[:4])]


def samples(*, visual: float, reward: float | None, brightness: float = 1.0) -> list[Sample]:
    found = []
    for index, prompt in enumerate(PROMPTS):
        for seed in range(3):
            clip = world.render(
                prompt.text, np.random.default_rng([index, seed]), corruption=world.Corruption(visual=visual)
            )
            found.append(
                Sample(prompt=prompt, seed=seed, scores={}, reward=reward, frames=(clip * brightness).astype(np.uint8))
            )
    return found


def test_noise_depends_on_prompt_and_evaluation_seed_and_not_on_the_version() -> None:
    before, after = PLAN.requests(PROMPTS, version=0), PLAN.requests(PROMPTS, version=60)
    assert [r.seeds for r in before] == [r.seeds for r in after]
    assert {r.policy_version for r in after} == {60}
    assert len({seed for request in before for seed in request.seeds}) == 12


def test_cleaner_clips_win_and_the_interval_holds_the_gain() -> None:
    result = compare(samples(visual=0.7, reward=-1.0), samples(visual=0.0, reward=1.0), truth=truth)
    gain = result["ground_truth_after"] - result["ground_truth_before"]
    assert gain > 0.1
    assert result["win_rate"] == result["win_rate_margin_0_05"] == result["reward_win_rate"] == 1.0
    assert result["lose_rate_margin_0_05"] == 0.0
    low, high = result["ground_truth_gain_ci95"]
    assert low <= gain <= high
    assert result["parts_after"]["vq"] > result["parts_before"]["vq"]


def test_equal_clips_neither_win_nor_lose() -> None:
    clips = samples(visual=0.3, reward=0.5)
    result = compare(clips, clips, truth=truth)
    assert result["win_rate"] == result["lose_rate_margin_0_05"] == 0.0
    assert result["ground_truth_after_energy_matched"] == pytest.approx(result["ground_truth_before"], abs=0.01)
    assert result["diversity_before"] == result["diversity_after"] > 0


def test_energy_matching_takes_back_what_brightness_alone_gave() -> None:
    dim, bright = samples(visual=0.2, reward=0.0, brightness=0.5), samples(visual=0.2, reward=0.0)
    result = compare(dim, bright, truth=truth)
    assert result["ground_truth_after"] > result["ground_truth_before"] + 0.05
    assert abs(result["ground_truth_after_energy_matched"] - result["ground_truth_before"]) < 0.02


def test_without_a_ground_truth_the_reward_decides() -> None:
    result = compare(samples(visual=0.5, reward=0.0), samples(visual=0.0, reward=0.04), truth=None)
    assert (result["win_rate"], result["win_rate_margin_0_05"]) == (1.0, 0.0)
    assert "ground_truth_before" not in result


def test_samples_without_a_reward_are_left_out_and_none_at_all_is_null() -> None:
    clips = samples(visual=0.0, reward=None)
    assert math.isnan(mean_reward(clips))
    result = compare(clips, clips, truth=None)
    assert result["reward_before"] is result["win_rate"] is result["reward_gain_ci95"] is None


def test_pixel_diversity_is_the_spread_within_prompts_only() -> None:
    frames = [np.full((9, 32, 32, 3), value, np.uint8) for value in (0, 0, 200, 200)]
    two = [Sample(prompt=PROMPTS[i // 2], seed=i, scores={}, reward=0.0, frames=f) for i, f in enumerate(frames)]
    assert pixel_diversity(two) == 0.0
    assert pixel_diversity([two[0], Sample(prompt=PROMPTS[0], seed=9, scores={}, reward=0.0, frames=frames[2])]) > 0.3
