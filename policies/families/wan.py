"""Wan: flow matching on (C, F, H, W) latents.

    x_t = (1 - sigma) x_0 + sigma eps,    the network predicts v = eps - x_0,    t = 1000 sigma as a float

Latents are normalised by the VAE's own mean and standard deviation per channel. Text is UMT5, cut at its end and padded
with zeros; there is no text mask, so the padded length is part of the model's input.
"""

from __future__ import annotations

import math
from typing import final

import torch
from diffusers import (
    AutoencoderKLWan,
    DiffusionPipeline,
    FlowMatchEulerDiscreteScheduler,
    UniPCMultistepScheduler,
    WanPipeline,
    WanTransformer3DModel,
)
from torch import Tensor

from policies.errors import InputError
from policies.families.diffusers_policy import DiffusersPolicy, per_sample
from policies.families.sizes import SizeRule, check_sizes
from policies.lora import LoraWeightSets
from policies.text import PromptEmbeddings
from policies.types import VideoShape

_TIME_SCALE = 1000  # the network is fed 1000 sigma


@final
class WanPolicy(DiffusersPolicy):
    """Wan 2.1, and the dense Wan 2.2 whose time is given per token (TI2V-5B)."""

    pipeline_class = WanPipeline
    transformer_class = WanTransformer3DModel
    vae_class = AutoencoderKLWan
    scheduler_classes = (UniPCMultistepScheduler, FlowMatchEulerDiscreteScheduler)
    default_lora_targets = (
        *(f"{block}.{layer}" for block in ("attn1", "attn2") for layer in ("to_q", "to_k", "to_v", "to_out.0")),
        "ffn.net.0.proj",
        "ffn.net.2",
    )

    def __init__(self, pipeline: DiffusionPipeline, *, lora: LoraWeightSets, embeddings: PromptEmbeddings) -> None:
        super().__init__(pipeline, lora=lora, embeddings=embeddings)
        spatial, temporal = pipeline.vae_scale_factor_spatial, pipeline.vae_scale_factor_temporal
        patch_height, patch_width = self.transformer.config.patch_size[1:]
        self._frames = SizeRule(multiple=temporal, remainder=1)
        self._height = SizeRule(multiple=math.lcm(16, spatial * patch_height))  # 16: the pipeline insists
        self._width = SizeRule(multiple=math.lcm(16, spatial * patch_width))
        self._mean, self._std = (
            torch.tensor(values, device=self.device).view(1, -1, 1, 1, 1)
            for values in (self.vae.config.latents_mean, self.vae.config.latents_std)
        )

    @classmethod
    def check_pipeline(cls, pipeline: DiffusionPipeline) -> None:
        noise = pipeline.scheduler.config
        prediction = noise.get("prediction_type", "flow_prediction")
        if prediction != "flow_prediction" or noise.get("invert_sigmas") or noise.get("stochastic_sampling"):
            raise InputError(
                f"Wan's noise scheduler must predict a flow and sample deterministically, this one has prediction_type "
                f"{prediction}, invert_sigmas {noise.get('invert_sigmas')}, stochastic_sampling "
                f"{noise.get('stochastic_sampling')}"
            )
        if pipeline.config.boundary_ratio is not None:
            raise InputError("Wan 2.2 with two transformers (boundary_ratio) is not supported; use a Wan 2.1 model")

    @property
    def family(self) -> str:
        return "wan"

    @property
    def vae_channels(self) -> int:
        return int(self.vae.config.z_dim)

    def check_shape(self, shape: VideoShape) -> None:
        check_sizes("Wan", shape, frames=self._frames, height=self._height, width=self._width)

    def latent_shape(self, shape: VideoShape) -> tuple[int, int, int, int]:
        spatial, temporal = self.pipeline.vae_scale_factor_spatial, self.pipeline.vae_scale_factor_temporal
        frames = (shape.num_frames - 1) // temporal + 1
        return int(self.transformer.config.in_channels), frames, shape.height // spatial, shape.width // spatial

    def times(self, u_B: Tensor) -> Tensor:
        return u_B.float() * _TIME_SCALE

    def add_noise(self, clean_B: Tensor, noise_B: Tensor, t_B: Tensor) -> Tensor:
        sigma_B = per_sample(t_B / _TIME_SCALE, clean_B)
        return (1 - sigma_B) * clean_B + sigma_B * noise_B

    def target(self, clean_B: Tensor, noise_B: Tensor, t_B: Tensor) -> Tensor:
        return noise_B - clean_B

    def clean(self, noisy_B: Tensor, prediction_B: Tensor, t_B: Tensor) -> Tensor:
        return noisy_B - per_sample(t_B / _TIME_SCALE, noisy_B) * prediction_B

    def noise_error_weight(self, t_B: Tensor) -> Tensor:
        return (1 - t_B.float() / _TIME_SCALE) ** 2  # eps = x_t + (1 - sigma) v

    def _forward(self, noisy_B: Tensor, t_B: Tensor, text_BLD: Tensor) -> Tensor:
        timestep = t_B.float()
        if self.pipeline.config.expand_timesteps:  # TI2V-5B: the same time for every token
            patch = self.transformer.config.patch_size
            tokens = math.prod(size // p for size, p in zip(noisy_B.shape[2:], patch, strict=True))
            timestep = timestep[:, None].expand(-1, tokens)
        prediction_B: Tensor = self.transformer(
            hidden_states=noisy_B, timestep=timestep, encoder_hidden_states=text_BLD, return_dict=False
        )[0]
        return prediction_B

    def _to_video(self, latents_B: Tensor) -> Tensor:
        video_BCFHW: Tensor = self.vae.decode(latents_B * self._std + self._mean, return_dict=False)[0]
        return video_BCFHW

    def _to_latents(self, video_BCFHW: Tensor) -> Tensor:
        latents_B: Tensor = self.vae.encode(video_BCFHW).latent_dist.mode()
        return (latents_B - self._mean) / self._std
