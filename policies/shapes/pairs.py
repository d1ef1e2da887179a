"""Synthetic preferences that the world's reward is learned from: pairs of clips of one training prompt.

Legend: B pairs, F frames, H height, W width, C colour channels, L text tokens.

Of each clip the faults are known, so labels need no judge: the clip with the milder fault is better in that dimension,
and equal faults are a tie. Most pairs have been through the autoencoder once, because the clips to be judged later
come out of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from diffusers import AutoencoderKLWan
from torch import Tensor

from policies.rewards.training.loop import LabelledVideos, Step
from policies.shapes.pretrain import draw_faulty
from policies.shapes.prompts import TRAIN_PROMPTS
from policies.shapes.reward import ShapesRewardModel
from policies.shapes.reward_training import ClipsAndIds
from policies.shapes.vae import decode_parallel, encode_parallel, to_clips, to_video
from policies.shapes.world import Clips, Corruption, FaultRates, render_batch

FAULTS = FaultRates(visual=0.5, motion=0.5, wrong=0.3, min_severity=0.05)
TIE_SEVERITY = 0.12
"""Severities closer than this are a tie: nobody could tell them apart."""


@dataclass(frozen=True, slots=True)
class LabelledPairs:
    """Pairs with labels (B, 3) for VQ, MQ, TA: +1 the first is better, -1 the second, 0 a tie."""

    prompts: list[str]
    first_BFHWC: Clips
    second_BFHWC: Clips
    labels_B3: Tensor

    def videos(self, model: ShapesRewardModel, pick_B: np.ndarray | slice = slice(None)) -> LabelledVideos[ClipsAndIds]:
        """Some of the pairs as the reward model takes them: 2B videos, the first ones first."""
        ids_BL = model.token_ids([str(prompt) for prompt in np.array(self.prompts)[pick_B]])
        clips = np.concatenate([self.first_BFHWC[pick_B], self.second_BFHWC[pick_B]])
        return LabelledVideos((torch.from_numpy(clips).float() / 255.0, ids_BL.repeat(2, 1)), self.labels_B3[pick_B])


def draw_pairs(count: int, rng: np.random.Generator) -> LabelledPairs:
    """Freshly rendered pairs of training prompts, each clip with faults of its own."""
    prompts = [TRAIN_PROMPTS[number] for number in rng.integers(len(TRAIN_PROMPTS), size=count)]
    sides = [[draw_faulty(prompt, FAULTS, rng) for prompt in prompts] for _ in range(2)]
    first, second = (
        render_batch([shown for shown, _ in side], rng, [replace(fault, wrong=()) for _, fault in side])
        for side in sides
    )
    labels = [label(left, right) for (_, left), (_, right) in zip(*sides, strict=True)]
    return LabelledPairs(prompts, first, second, torch.tensor(labels, dtype=torch.float32).reshape(count, 3))


def label(first: Corruption, second: Corruption, *, tie_severity: float = TIE_SEVERITY) -> tuple[float, float, float]:
    """Which of two clips is better in VQ, MQ and TA, from their faults: +1, 0 or -1 each."""

    def sign(difference: float, tie: float) -> float:
        return 0.0 if abs(difference) < tie else float(np.sign(difference))

    return (
        sign(second.visual - first.visual, tie_severity),
        sign(second.motion - first.motion, tie_severity),
        sign(len(second.wrong) - len(first.wrong), 1),
    )


@torch.no_grad()
def through_vae(pairs: LabelledPairs, vae: AutoencoderKLWan) -> LabelledPairs:
    """The same pairs after encoding and decoding: what a policy's best samples can look like."""

    def passed(clips_BFHWC: Clips) -> Clips:
        parts = torch.split(to_video(clips_BFHWC), 60)
        return np.concatenate([to_clips(decode_parallel(vae, encode_parallel(vae, part))) for part in parts])

    return replace(pairs, first_BFHWC=passed(pairs.first_BFHWC), second_BFHWC=passed(pairs.second_BFHWC))


def training_steps(
    model: ShapesRewardModel, vae: AutoencoderKLWan, rng: np.random.Generator, *, batch_size: int, bank_pairs: int
) -> Iterator[Step[ClipsAndIds]]:
    """Endless steps: two of three from a bank that went through the autoencoder, the third freshly rendered."""
    bank = through_vae(draw_pairs(bank_pairs, rng), vae)
    while True:
        for videos in (
            bank.videos(model, rng.integers(bank_pairs, size=batch_size)),
            bank.videos(model, rng.integers(bank_pairs, size=batch_size)),
            draw_pairs(batch_size, rng).videos(model),
        ):
            yield Step(labels=videos.labels, micro_batches=[videos])
