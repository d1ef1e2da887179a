"""The world's video autoencoder: diffusers' AutoencoderKLWan at toy width, trained from nothing on rendered clips.

Legend: B clips, C channels, F frames, H height, W width, K kept latent channels, Z latent channels before folding.
Videos are BCFHW float32 in [-1, 1]; latents are B, K, 3, 4, 4 for clips of 9x32x32.

Three steps make it: 1. train (deterministic latent: no KL term, noise on the latent instead), 2. fold a whitening into
the convolutions at both ends of the latent, which drops half of the channels and makes the rest easy to learn,
3. save. The folder is an ordinary AutoencoderKLWan; nothing in it needs this module.

The class encodes and decodes in causal chunks with a cache. encode_parallel and decode_parallel walk the same layers
over all frames at once, for gradients and for speed, and give the same numbers (difference about 1e-6). They call no
private method and patch nothing; they fit any AutoencoderKLWan whose time stays within one call's memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from diffusers import AutoencoderKLWan
from diffusers.models.autoencoders.autoencoder_kl_wan import WanResample, patchify, unpatchify
from torch import Tensor, nn

from policies.optimizers import Descent, Schedule
from policies.shapes.prompts import ALL_PROMPTS
from policies.shapes.world import Clips, FaultRates, render_batch

RAW_CHANNELS = 32
KEPT_CHANNELS = 16
FAULTS = FaultRates(visual=0.3, motion=0.35, wrong=0.0)

Progress = Callable[[int, int, float], None]
"""Called after each training step with steps done, steps in all, loss."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VaeTraining:
    """Steps and sizes of the autoencoder's training; the defaults made the shipped weights."""

    steps: int = 1750
    batch_size: int = 16
    lr: float = 3e-3
    whitening_clips: int = 512
    kept_channels: int = KEPT_CHANNELS


def new_vae(z_dim: int, seed: int = 0) -> AutoencoderKLWan:
    """An untrained autoencoder; the global random state is left alone."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return AutoencoderKLWan(
            base_dim=16,
            dim_mult=[1, 2, 2],  # with is_residual the last two must be equal
            temperal_downsample=[True, True],
            num_res_blocks=1,
            is_residual=True,
            patch_size=2,
            in_channels=12,
            out_channels=12,
            z_dim=z_dim,
            latents_mean=[0.0] * z_dim,
            latents_std=[1.0] * z_dim,
            scale_factor_spatial=8,
            scale_factor_temporal=4,
        )


def to_video(clips_BFHWC: Clips) -> Tensor:
    """uint8 clips as the model's float video, BCFHW in [-1, 1]."""
    return torch.from_numpy(np.ascontiguousarray(clips_BFHWC.transpose(0, 4, 1, 2, 3))).float() / 127.5 - 1.0


def to_clips(video_BCFHW: Tensor) -> Clips:
    """The model's float video as uint8 clips BFHWC, rounded as diffusers' VideoProcessor rounds."""
    frames_BFHWC = (video_BCFHW.detach() / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 4, 1)
    clips: Clips = (frames_BFHWC * 255).round().to(torch.uint8).numpy()
    return clips


def encode_parallel(vae: AutoencoderKLWan, video_BCFHW: Tensor) -> Tensor:
    """Mean of the latent, all frames at once: equal to vae.encode(video).latent_dist.mode() up to rounding."""
    x = video_BCFHW if vae.config.patch_size is None else patchify(video_BCFHW, vae.config.patch_size)
    x = vae.encoder.conv_in(x)
    for block in vae.encoder.down_blocks:
        if isinstance(block, WanResample):
            x = _downsampled(block, x)
        elif hasattr(block, "avg_shortcut"):  # Wan 2.2's residual block; Wan 2.1 lists its layers singly
            shortcut = block.avg_shortcut(x)
            for resnet in block.resnets:
                x = resnet(x)
            x = (x if block.downsampler is None else _downsampled(block.downsampler, x)) + shortcut
        else:
            x = block(x)
    x = vae.encoder.nonlinearity(vae.encoder.norm_out(vae.encoder.mid_block(x)))
    mean_BCFHW: Tensor = vae.quant_conv(vae.encoder.conv_out(x)).chunk(2, dim=1)[0]
    return mean_BCFHW


def decode_parallel(vae: AutoencoderKLWan, latents_BCFHW: Tensor, *, clamp: bool = True) -> Tensor:
    """Video of latents, all frames at once: equal to vae.decode(latents).sample up to rounding.

    Args:
        latents_BCFHW: in the autoencoder's own scale, that is after latents * latents_std + latents_mean.
        clamp: as the class does; without it gradients reach saturated pixels too.
    """
    x = vae.decoder.mid_block(vae.decoder.conv_in(vae.post_quant_conv(latents_BCFHW)))
    for block in vae.decoder.up_blocks:
        shortcut = getattr(block, "avg_shortcut", None)  # only Wan 2.2's residual block has one
        upsampler = block.upsampler if hasattr(block, "upsampler") else (block.upsamplers or [None])[0]
        before = x
        for resnet in block.resnets:
            x = resnet(x)
        x = x if upsampler is None else _upsampled(upsampler, x)
        x = x if shortcut is None else x + shortcut(before, first_chunk=True)
    x = vae.decoder.conv_out(vae.decoder.nonlinearity(vae.decoder.norm_out(x)))
    video_BCFHW: Tensor = x if vae.config.patch_size is None else unpatchify(x, vae.config.patch_size)
    return video_BCFHW.clamp(-1.0, 1.0) if clamp else video_BCFHW


def train_vae(training: VaeTraining, *, seed: int, progress: Progress | None = None) -> AutoencoderKLWan:
    """Trains and folds an autoencoder; the same seed with one thread gives the same weights.

    It sees clips of all prompts, test prompts too: it learns to draw pictures, and no text.
    """
    vae = new_vae(RAW_CHANNELS, seed).train()
    nn.init.zeros_(vae.post_quant_conv.bias).requires_grad_(False)  # for folded; conv_in has a bias anyway
    noise_rng = torch.Generator().manual_seed(seed)
    schedule = Schedule(lr=training.lr, steps=training.steps, warmup_steps=min(30, training.steps // 4))
    descent = Descent(vae, schedule, is_muon=_is_inner_kernel, ema_decay=0.99)
    batches = _videos(np.random.default_rng(seed), training.batch_size)
    for step in range(1, training.steps + 1):
        loss = descent.step(_loss(vae, next(batches), noise_rng))
        if progress is not None:
            progress(step, training.steps, loss)
    descent.load_average()
    vae = vae.eval().requires_grad_(False)
    clips = next(_videos(np.random.default_rng([seed, 1]), training.whitening_clips))
    latents = torch.cat([encode_parallel(vae, part) for part in torch.split(clips, 64)])
    return folded(vae, latents, training.kept_channels)


@torch.no_grad()
def folded(vae: AutoencoderKLWan, latents_BCFHW: Tensor, kept: int) -> AutoencoderKLWan:
    """The same autoencoder with a rotated, partly whitened and narrower latent, as a new model.

    The latent's channels are strongly correlated, which latents_mean and latents_std cannot undo, being per channel.
    Here z becomes u = A (z - mean): kept directions turned to principal axes, divided by std**0.6 (full whitening
    would blow up what hardly matters), scaled to mean variance 1. A goes into the encoder's last convolution and its
    inverse into the decoder's first. That one pads with zeros, so no constant may pass it unseen: directions are kept
    by their second moment, which holds the mean too, and post_quant_conv must have no bias (new_vae's training keeps it
    at zero). Then folding is exact but for the dropped directions.

    Args:
        vae: trained, of Z latent channels.
        latents_BCFHW: its latents of typical clips.
        kept: K, channels that stay, by falling variance.
    """
    z_dim = int(vae.config.z_dim)
    flat_XZ = latents_BCFHW.transpose(0, 1).flatten(1).T.double()
    mean_Z = flat_XZ.mean(0)
    basis_ZK = torch.linalg.eigh(flat_XZ.T @ flat_XZ / len(flat_XZ))[1].flip(1)[:, :kept]
    inner_XK = (flat_XZ - mean_Z) @ basis_ZK
    variance_K, turn_KK = torch.linalg.eigh(inner_XK.T @ inner_XK / len(inner_XK))
    variance_K, axes_ZK = variance_K.flip(0).clamp_min(1e-8), basis_ZK @ turn_KK.flip(1)
    scale_K = variance_K.pow(-0.3)
    scale_K = scale_K / (variance_K * scale_K**2).mean().sqrt()
    into_KZ, back_ZK = scale_K[:, None] * axes_ZK.T, axes_ZK / scale_K

    narrow = new_vae(kept)
    own = narrow.state_dict()  # its tensors are the model's own: written in place
    for name, value in vae.state_dict().items():
        if own[name].shape == value.shape:
            own[name].copy_(value)
    read_KY = into_KZ @ vae.quant_conv.weight[:z_dim, :, 0, 0, 0].double()
    shift_K = into_KZ @ (vae.quant_conv.bias[:z_dim].double() - mean_Z)
    last, first = vae.encoder.conv_out, vae.decoder.conv_in
    own["encoder.conv_out.weight"].zero_()[:kept] = torch.einsum("ky,yifhw->kifhw", read_KY, last.weight.double())
    own["encoder.conv_out.bias"].zero_()[:kept] = read_KY @ last.bias.double() + shift_K
    own["quant_conv.weight"].zero_()[:kept, :kept, 0, 0, 0] = torch.eye(kept)
    own["quant_conv.bias"].zero_()[kept:] = -20.0  # log variance: latent_dist.sample() is then nearly its mean
    own["post_quant_conv.weight"][:, :, 0, 0, 0] = torch.eye(kept)
    own["post_quant_conv.bias"].copy_(into_KZ @ mean_Z)
    write_ZK = vae.post_quant_conv.weight[:, :, 0, 0, 0].double() @ back_ZK
    own["decoder.conv_in.weight"].copy_(torch.einsum("ozfhw,zk->okfhw", first.weight.double(), write_ZK))
    return narrow.eval().requires_grad_(False)


def _videos(rng: np.random.Generator, batch_size: int) -> Iterator[Tensor]:
    while True:
        prompts = [str(prompt) for prompt in rng.choice(ALL_PROMPTS, batch_size)]
        yield to_video(render_batch(prompts, rng, [FAULTS.draw(rng) for _ in prompts]))


def _is_inner_kernel(name: str, weight: Tensor) -> bool:
    """Kernels that map features to features; the ones at pixels and latent (conv_in, conv_out, *quant_conv) do not."""
    return weight.dim() >= 4 and not any(end in name for end in ("conv_in", "conv_out", "quant_conv"))


def _loss(vae: AutoencoderKLWan, video_BCFHW: Tensor, noise_rng: torch.Generator) -> Tensor:
    latents = encode_parallel(vae, video_BCFHW)
    spread = latents.detach().std(dim=(0, 2, 3, 4), keepdim=True)
    noise = torch.randn(latents.shape, generator=noise_rng)
    decoded = decode_parallel(vae, latents + 0.05 * spread * noise, clamp=False)
    error = (decoded - video_BCFHW).abs()
    weight = 1.0 + 3.0 * (video_BCFHW.amax(1, keepdim=True) > -0.6)  # the shape fills a tenth of the picture
    edges = _gradient_error(decoded, video_BCFHW, -1) + _gradient_error(decoded, video_BCFHW, -2)
    return (weight * (error + 2 * error.square())).mean() + 0.5 * edges + 3e-4 * latents.square().mean()


def _gradient_error(left: Tensor, right: Tensor, dim: int) -> Tensor:
    return (left.diff(dim=dim) - right.diff(dim=dim)).abs().mean()


def _downsampled(layer: WanResample, x: Tensor) -> Tensor:
    """What the class computes chunk by chunk: the first frame passes, then pairs of frames merge."""
    x = _each_frame(layer, x)
    return torch.cat([x[:, :, :1], layer.time_conv(x)], 2) if layer.mode == "downsample3d" and x.shape[2] > 1 else x


def _upsampled(layer: WanResample, x: Tensor) -> Tensor:
    """The reverse: the first frame passes, each later one becomes two; the first is not part of their past."""
    if layer.mode == "upsample3d" and x.shape[2] > 1:
        pairs = layer.time_conv(x[:, :, 1:]).unflatten(1, (2, -1))
        x = torch.cat([x[:, :, :1], torch.stack((pairs[:, 0], pairs[:, 1]), 3).flatten(2, 3)], 2)
    return _each_frame(layer, x)


def _each_frame(layer: WanResample, x: Tensor) -> Tensor:
    frames: Tensor = layer.resample(x.transpose(1, 2).flatten(0, 1))
    return frames.view(x.shape[0], x.shape[2], *frames.shape[1:]).transpose(1, 2)
