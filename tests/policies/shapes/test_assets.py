"""The shipped weights pass the world's gates, on seeds that nothing was chosen on."""

from functools import cache
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import WanPipeline
from transformers import AutoTokenizer

from policies.rewards.bradley_terry import pair_accuracy
from policies.shapes.gates import mean_scores, pair_agreement, round_trip, sample_plainly
from policies.shapes.pairs import draw_pairs, through_vae
from policies.shapes.prompts import TEST_PROMPTS
from policies.shapes.reward import ShapesRewardModel
from policies.shapes.truth import score_clips
from policies.shapes.vae import decode_parallel
from policies.shapes.world import Clips

pytestmark = pytest.mark.slow

ASSETS = Path(str(files("policies.shapes"))) / "assets"
PROMPTS = [prompt for prompt in TEST_PROMPTS for _ in range(4)]


@cache
def pipeline() -> WanPipeline:
    loaded = WanPipeline.from_pretrained(ASSETS / "policy")
    loaded.set_progress_bar_config(disable=True)
    return loaded


@cache
def base_clips(max_sequence_length: int) -> Clips:
    return sample_plainly(pipeline(), PROMPTS, seed=40_001, max_sequence_length=max_sequence_length)


def test_the_assets_are_small_and_hold_nothing_executable() -> None:
    found = [path for path in ASSETS.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in found) <= 8e6
    assert {path.suffix for path in found} <= {".json", ".safetensors", ".md", ".mp4"}


def test_a_round_trip_keeps_clean_clips_and_every_shape() -> None:
    scores = round_trip(pipeline().vae, seed=40_002)
    assert scores["ground_truth"] >= 0.88
    assert scores["shape"] >= 0.95
    assert min(scores["colour"], scores["direction"], scores["speed"]) >= 0.97


def test_the_base_policy_does_what_is_asked_with_honest_faults() -> None:
    scores = mean_scores(score_clips(base_clips(8), PROMPTS))
    assert 0.60 <= scores["ground_truth"] <= 0.75
    assert scores["ta"] >= 0.75
    assert max(scores["vq"], scores["mq"]) <= 0.85


def test_the_default_text_length_scores_the_same() -> None:
    short, default = (mean_scores(score_clips(base_clips(length), PROMPTS)) for length in (8, 512))
    assert default["ground_truth"] == pytest.approx(short["ground_truth"], abs=0.03)
    assert default["ta"] >= 0.75


def test_the_pipeline_decodes_as_the_parallel_decoder_does() -> None:
    latents = torch.randn(2, 16, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        chunked = pipeline().vae.decode(latents).sample
        assert (decode_parallel(pipeline().vae, latents) - chunked).abs().max() < 1e-5


@torch.no_grad()
def test_the_reward_orders_synthetic_pairs_and_the_policys_own_clips() -> None:
    model = ShapesRewardModel.from_pretrained(ASSETS / "reward").eval()
    videos = through_vae(draw_pairs(300, np.random.default_rng(40_003)), pipeline().vae).videos(model)
    accuracy = pair_accuracy(*model(*videos.inputs).chunk(2), videos.labels)
    assert accuracy.min() > 0.88
    assert pair_agreement(model, base_clips(8), PROMPTS) > 0.75


def test_the_tokenizer_of_the_reward_is_that_of_the_policy() -> None:
    own = AutoTokenizer.from_pretrained(ASSETS / "reward")
    assert own.get_vocab() == pipeline().tokenizer.get_vocab()
