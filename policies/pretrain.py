"""Flow-matching pre-training of a video transformer, for the bundled world and for other data.

Legend: B clips, C latent channels, F latent frames, H W latent height and width, L text tokens, D embedding width.

    x_t = (1 - t) x_0 + t noise,   the transformer predicts   v = noise - x_0,   at timestep 1000 t

(rectified flow, arXiv 2209.03003, in the direction and on the time scale of diffusers' Wan pipelines). Times are
logit-normal, t = sigmoid(m + s N(0, 1)) as in Stable Diffusion 3 (arXiv 2403.03206).

WanPipeline pads prompt embeddings with zeros and its transformer has no text mask, so the number of pads is part of
the model's input: a model trained with one length alone fails at another (0.72 of ground truth at 8 tokens became 0.47
at the pipeline's default of 512). Hence every step draws its length from `text_lengths`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from policies.errors import InputError
from policies.optimizers import Descent, Schedule

Progress = Callable[[int, int, float], None]
"""Called after each training step with steps done, steps in all, loss."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PretrainConfig:
    """Settings of a pre-training. text_lengths maps the padded number of tokens to the share of steps that use it."""

    steps: int = 1200
    lr: float = 3e-3
    warmup_steps: int = 50
    decay_start: float = 0.6
    ema_decay: float = 0.995
    clip_norm: float = 1.0
    time_mean: float = 0.4
    time_std: float = 1.2
    text_lengths: dict[int, float] = field(default_factory=lambda: {8: 0.60, 32: 0.25, 512: 0.15})

    def __post_init__(self) -> None:
        if not self.text_lengths or min(self.text_lengths.values()) <= 0:
            raise InputError(f"text_lengths {self.text_lengths} must name at least one length, each with a share > 0.")
        if self.time_std <= 0:
            raise InputError(f"time_std {self.time_std} must be > 0.")


def pretrain(
    transformer: nn.Module,
    batches: Iterator[tuple[Tensor, Tensor]],
    config: PretrainConfig,
    *,
    seed: int,
    progress: Progress | None = None,
) -> nn.Module:
    """Trains a transformer in place and leaves the averaged weights in it.

    Args:
        transformer: called like diffusers' WanTransformer3DModel: hidden_states (B, C, F, H, W), timestep (B,) in
            [0, 1000], encoder_hidden_states (B, L, D), return_dict=False; its first output is the velocity. Muon
            trains the matrices below `blocks.`, AdamW the rest.
        batches: endless; each item is normalised latents BCFHW and prompt embeddings BLD, zero behind each prompt's
            end. Embeddings are padded further to the length drawn for the step, never cut.
        config: see PretrainConfig.
        seed: of times, noise and lengths. The same seed, data and thread count give the same weights.
        progress: called after each step.
    Returns:
        The same transformer, in evaluation mode.
    Raises:
        NonFiniteError: a loss or gradient is not finite.
    """
    rng = torch.Generator().manual_seed(seed)
    schedule = Schedule(
        lr=config.lr, steps=config.steps, warmup_steps=config.warmup_steps, decay_start=config.decay_start
    )
    transformer.train()
    descent = Descent(
        transformer, schedule, is_muon=_is_block_matrix, ema_decay=config.ema_decay, clip_norm=config.clip_norm
    )
    for step in range(1, config.steps + 1):
        latents_BCFHW, embeds_BLD = next(batches)
        embeds_BLD = padded(embeds_BLD, _draw_length(config.text_lengths, rng))
        time_B = torch.sigmoid(config.time_mean + config.time_std * torch.randn(len(latents_BCFHW), generator=rng))
        noise_BCFHW = torch.randn(latents_BCFHW.shape, generator=rng)
        loss = descent.step(flow_matching_loss(transformer, latents_BCFHW, embeds_BLD, time_B, noise_BCFHW))
        if progress is not None:
            progress(step, config.steps, loss)
    descent.load_average()
    return transformer.eval()


def flow_matching_loss(
    transformer: nn.Module, latents_BCFHW: Tensor, embeds_BLD: Tensor, time_B: Tensor, noise_BCFHW: Tensor
) -> Tensor:
    """Mean squared error of the predicted velocity, at times in (0, 1) and with noise that the caller draws."""
    t = time_B.view(-1, 1, 1, 1, 1).to(latents_BCFHW)
    noisy_BCFHW = (1 - t) * latents_BCFHW + t * noise_BCFHW
    velocity_BCFHW = transformer(
        hidden_states=noisy_BCFHW, timestep=1000 * time_B, encoder_hidden_states=embeds_BLD, return_dict=False
    )[0]
    return F.mse_loss(velocity_BCFHW.float(), (noise_BCFHW - latents_BCFHW).float())


def padded(embeds_BLD: Tensor, length: int) -> Tensor:
    """Embeddings with zeros behind them up to a number of tokens; longer ones stay as they are."""
    return F.pad(embeds_BLD, (0, 0, 0, max(0, length - embeds_BLD.shape[1])))


def _draw_length(shares: dict[int, float], rng: torch.Generator) -> int:
    index = torch.multinomial(torch.tensor(list(shares.values())), 1, generator=rng)
    return list(shares)[int(index)]


def _is_block_matrix(name: str, weight: Tensor) -> bool:
    return "blocks." in name and weight.dim() == 2
