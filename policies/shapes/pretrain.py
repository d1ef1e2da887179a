"""Data and model of the world's base policy: a Wan transformer of 0.6 M parameters, pre-trained on faulty clips.

Legend: B clips, C latent channels, F latent frames, H W latent height and width, L text tokens, D embedding width.

The faults are meant: a policy that saw only clean clips would leave preference optimisation nothing to improve. It
sees training prompts only, and a wrongly rendered attribute never shows what a held-out prompt asks for.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel
from torch import Tensor

from policies.shapes.prompts import TRAIN_PROMPTS, Attributes, parse_prompt
from policies.shapes.text import TEXT_WIDTH
from policies.shapes.vae import KEPT_CHANNELS, encode_parallel, to_video
from policies.shapes.world import Clips, Corruption, FaultRates, render_batch, shown_attributes

FAULTS = FaultRates(visual=0.48, motion=0.48, wrong=0.12)
"""Rates of the policy's training data. At 0.40 the base scores 0.70 and leaves little to improve, at 0.55 0.605."""

TRAIN_ATTRIBUTES: dict[str, Attributes] = {prompt: parse_prompt(prompt) for prompt in TRAIN_PROMPTS}


@dataclass(frozen=True, slots=True)
class LatentBank:
    """Encoded clips and the number of each one's prompt in TRAIN_PROMPTS."""

    latents_BCFHW: Tensor
    prompt_B: Tensor

    def batches(self, embeds_PLD: Tensor, batch_size: int, rng: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        """Endless random batches for policies.pretrain, given the embeddings of TRAIN_PROMPTS in order."""
        while True:
            pick_B = torch.randint(len(self.prompt_B), (batch_size,), generator=rng)
            yield self.latents_BCFHW[pick_B], embeds_PLD[self.prompt_B[pick_B]]


def new_transformer(seed: int, latent_channels: int = KEPT_CHANNELS) -> WanTransformer3DModel:
    """The untrained policy; the global random state is left alone."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return WanTransformer3DModel(
            patch_size=(1, 1, 1),
            num_attention_heads=4,
            attention_head_dim=24,
            in_channels=latent_channels,
            out_channels=latent_channels,
            text_dim=TEXT_WIDTH,
            freq_dim=64,
            ffn_dim=256,
            num_layers=4,
            cross_attn_norm=True,
            qk_norm="rms_norm_across_heads",
            rope_max_seq_len=32,
        )


def draw_faulty(prompt: str, rates: FaultRates, rng: np.random.Generator) -> tuple[Attributes, Corruption]:
    """What a clip of a training prompt shows and with which faults; never a combination that is held out."""
    while True:
        corruption = rates.draw(rng)
        shown = shown_attributes(TRAIN_ATTRIBUTES[prompt], corruption, rng)
        if shown.prompt in TRAIN_ATTRIBUTES:
            return shown, corruption


def render_training_clips(prompts: list[str], rates: FaultRates, rng: np.random.Generator) -> Clips:
    """One faulty clip per training prompt, (B, 9, 32, 32, 3) uint8."""
    drawn = [draw_faulty(prompt, rates, rng) for prompt in prompts]
    return render_batch([shown for shown, _ in drawn], rng, [replace(fault, wrong=()) for _, fault in drawn])


@torch.no_grad()
def fill_bank(vae: AutoencoderKLWan, clips: int, faults: FaultRates, rng: np.random.Generator) -> LatentBank:
    """Renders and encodes clips of training prompts, 60 at a time; encoding once is cheaper than at every step."""
    latents, numbers = [], []
    for start in range(0, clips, 60):
        number_B = rng.integers(len(TRAIN_PROMPTS), size=min(60, clips - start))
        rendered = render_training_clips([TRAIN_PROMPTS[number] for number in number_B], faults, rng)
        latents.append(encode_parallel(vae, to_video(rendered)))
        numbers.append(torch.from_numpy(number_B))
    return LatentBank(torch.cat(latents), torch.cat(numbers))
