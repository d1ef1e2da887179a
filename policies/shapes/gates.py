"""Measures whether a built world is good enough, with the exact scorer: what a README states and the tests require.

Legend: B clips, F frames, H height, W width, C colour channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields

import numpy as np
import torch
from diffusers import AutoencoderKLWan, WanPipeline

from policies.shapes.prompts import ALL_PROMPTS
from policies.shapes.reward import ShapesRewardModel
from policies.shapes.truth import TruthScores, score_clips
from policies.shapes.vae import decode_parallel, encode_parallel, to_clips, to_video
from policies.shapes.world import NUM_FRAMES, SIZE, Clips, render_batch

SAMPLING_STEPS = 6


def mean_scores(scores: Sequence[TruthScores]) -> dict[str, float]:
    """Mean of every score and part over clips."""
    return {part.name: float(np.mean([getattr(score, part.name) for score in scores])) for part in fields(TruthScores)}


@torch.no_grad()
def round_trip(vae: AutoencoderKLWan, *, seed: int, prompts: Sequence[str] = ALL_PROMPTS) -> dict[str, float]:
    """Scores of clean clips, one per prompt, after encoding and decoding: the ceiling of any policy."""
    clips = render_batch(prompts, np.random.default_rng(seed))
    videos = torch.split(to_video(clips), 48)
    decoded = np.concatenate([to_clips(decode_parallel(vae, encode_parallel(vae, video))) for video in videos])
    return mean_scores(score_clips(decoded, prompts))


def sample_plainly(
    pipeline: WanPipeline, prompts: Sequence[str], *, seed: int, max_sequence_length: int = 512
) -> Clips:
    """One clip per prompt as a stranger would draw it: the pipeline's own call and its default text length."""
    frames = pipeline(
        prompt=list(prompts),
        height=SIZE,
        width=SIZE,
        num_frames=NUM_FRAMES,
        num_inference_steps=SAMPLING_STEPS,
        guidance_scale=1.0,
        max_sequence_length=max_sequence_length,
        generator=torch.Generator().manual_seed(seed),
        output_type="np",
    ).frames
    clips: Clips = (np.asarray(frames) * 255.0).round().astype(np.uint8)
    return clips


@torch.no_grad()
def pair_agreement(
    model: ShapesRewardModel, clips_BFHWC: Clips, prompts: Sequence[str], *, min_gap: float = 0.02
) -> float:
    """How often the reward (mean of z-scored dimensions) orders two clips of one prompt as ground truth does.

    Only pairs whose ground truth differs by more than min_gap count.
    """
    frames = torch.from_numpy(clips_BFHWC).float() / 255.0
    raw_B3 = model.score_frames(frames, prompts)
    reward_B = ((raw_B3 - raw_B3.mean(0)) / raw_B3.std(0)).mean(1).numpy()
    truth_B = np.array([score.ground_truth for score in score_clips(clips_BFHWC, prompts)])
    names = np.array(prompts)
    left, right = np.triu_indices(len(names), k=1)
    used = (names[left] == names[right]) & (np.abs(truth_B[left] - truth_B[right]) > min_gap)
    left, right = left[used], right[used]
    return float(((reward_B[left] > reward_B[right]) == (truth_B[left] > truth_B[right])).mean())
