"""CogVideoX: a DDPM with v-prediction and zero terminal SNR, on (F, C, H, W) latents.

    x_t = sqrt(abar) x_0 + sqrt(1-abar) eps,    v = sqrt(abar) eps - sqrt(1-abar) x_0,    t = 0..999 (integer)

At the last t the cumulative alpha `abar` is exactly 0: errors of v stay finite there while errors of eps would be
divided by zero, so everything stays in v. `abar` comes from the checkpoint's own noise scheduler (its SNR shift and
rescaling differ between 2b and 5b).
"""

from __future__ import annotations

import math
from typing import final

import torch
from diffusers import (
    AutoencoderKLCogVideoX,
    CogVideoXDDIMScheduler,
    CogVideoXDPMScheduler,
    CogVideoXPipeline,
    CogVideoXTransformer3DModel,
    DiffusionPipeline,
)
from torch import Tensor

from policies.errors import InputError
from policies.families.diffusers_policy import DiffusersPolicy
from policies.families.sizes import SizeRule, check_sizes
from policies.lora import LoraWeightSets
from policies.text import PromptEmbeddings
from policies.types import VideoShape


@final
class CogVideoXPolicy(DiffusersPolicy):
    """CogVideoX 2b and 5b, and 1.5 whose transformer takes two latent frames per token."""

    pipeline_class = CogVideoXPipeline
    transformer_class = CogVideoXTransformer3DModel
    vae_class = AutoencoderKLCogVideoX
    scheduler_classes = (CogVideoXDDIMScheduler, CogVideoXDPMScheduler)
    default_lora_targets = ("to_q", "to_k", "to_v", "to_out.0")

    def __init__(self, pipeline: DiffusionPipeline, *, lora: LoraWeightSets, embeddings: PromptEmbeddings) -> None:
        super().__init__(pipeline, lora=lora, embeddings=embeddings)
        spatial, temporal = pipeline.vae_scale_factor_spatial, pipeline.vae_scale_factor_temporal
        # The VAE decodes latent frames in twos, the first chunk taking the odd one: only an odd number of them gives
        # back the frames that were asked for.
        self._frames = SizeRule(multiple=2 * temporal, remainder=1)
        self._sides = SizeRule(multiple=math.lcm(8, spatial * self.transformer.config.patch_size))
        # 1.5 groups latent frames in twos: the pipeline puts one more before the odd number and drops it at the end.
        self._padding = 1 if self.transformer.config.patch_size_t == 2 else 0
        self._abar = pipeline.scheduler.alphas_cumprod.to(self.device, torch.float64)
        self._rotary: dict[torch.Size, tuple[Tensor, Tensor]] = {}

    @classmethod
    def check_pipeline(cls, pipeline: DiffusionPipeline) -> None:
        prediction = pipeline.scheduler.config.prediction_type
        if prediction != "v_prediction":
            raise InputError(f"CogVideoX models predict v, this one's noise scheduler has prediction_type {prediction}")
        if pipeline.transformer.config.patch_size_t not in (None, 1, 2):
            raise InputError(
                f"patch_size_t {pipeline.transformer.config.patch_size_t} is not supported; it may be 1 or 2"
            )

    @property
    def family(self) -> str:
        return "cogvideox"

    @property
    def vae_channels(self) -> int:
        return int(self.vae.config.latent_channels)

    def check_text_length(self, max_sequence_length: int) -> None:
        expected = self.transformer.config.max_text_seq_length
        if max_sequence_length != expected:
            raise InputError(
                f"this CogVideoX model takes exactly {expected} text tokens; "
                f"set sampling.max_sequence_length to {expected} (now {max_sequence_length})"
            )

    def check_shape(self, shape: VideoShape) -> None:
        check_sizes("CogVideoX", shape, frames=self._frames, height=self._sides, width=self._sides)

    def latent_shape(self, shape: VideoShape) -> tuple[int, int, int, int]:
        spatial, temporal = self.pipeline.vae_scale_factor_spatial, self.pipeline.vae_scale_factor_temporal
        frames = (shape.num_frames - 1) // temporal + 1 + self._padding
        return frames, int(self.transformer.config.in_channels), shape.height // spatial, shape.width // spatial

    def times(self, u_B: Tensor) -> Tensor:
        return (u_B * len(self._abar)).long().clamp(max=len(self._abar) - 1)

    def _abar_at(self, t_B: Tensor, like: Tensor) -> Tensor:
        """The cumulative alpha of each sample; taken in float64, where 1 - abar near t = 0 keeps its digits."""
        abar_B: Tensor = self._abar[t_B.to(self.device)].to(like.device)
        return abar_B.reshape(-1, *[1] * (like.ndim - 1))

    def add_noise(self, clean_B: Tensor, noise_B: Tensor, t_B: Tensor) -> Tensor:
        abar_B = self._abar_at(t_B, clean_B)
        return abar_B.sqrt().float() * clean_B + (1 - abar_B).sqrt().float() * noise_B

    def target(self, clean_B: Tensor, noise_B: Tensor, t_B: Tensor) -> Tensor:
        abar_B = self._abar_at(t_B, clean_B)
        return abar_B.sqrt().float() * noise_B - (1 - abar_B).sqrt().float() * clean_B

    def clean(self, noisy_B: Tensor, prediction_B: Tensor, t_B: Tensor) -> Tensor:
        abar_B = self._abar_at(t_B, noisy_B)
        return abar_B.sqrt().float() * noisy_B - (1 - abar_B).sqrt().float() * prediction_B

    def noise_error_weight(self, t_B: Tensor) -> Tensor:
        return self._abar_at(t_B, t_B).float()  # eps = sqrt(1-abar) x_t + sqrt(abar) v

    @property
    def _noise_dtype(self) -> torch.dtype:
        return self.dtype  # this pipeline feeds the noise to the transformer as it comes

    def _forward(self, noisy_B: Tensor, t_B: Tensor, text_BLD: Tensor) -> Tensor:
        prediction_B: Tensor = self.transformer(
            hidden_states=noisy_B,
            timestep=t_B,
            encoder_hidden_states=text_BLD,
            image_rotary_emb=self._rotary_embedding(noisy_B),
            return_dict=False,
        )[0]
        return prediction_B

    def _rotary_embedding(self, latents_B: Tensor) -> tuple[Tensor, Tensor] | None:
        if not self.transformer.config.use_rotary_positional_embeddings:
            return None
        size = latents_B.shape[1:]
        if size not in self._rotary:
            scale = self.pipeline.vae_scale_factor_spatial
            # The pipeline's own method, private or not: it alone knows how 1.0 and 1.5 lay out their positions.
            self._rotary[size] = self.pipeline._prepare_rotary_positional_embeddings(
                size[2] * scale, size[3] * scale, size[0], self.device
            )
        return self._rotary[size]

    def _to_video(self, latents_B: Tensor) -> Tensor:
        latents_BCFHW = latents_B[:, self._padding :].permute(0, 2, 1, 3, 4)
        video_BCFHW: Tensor = self.vae.decode(latents_BCFHW / self.vae.config.scaling_factor, return_dict=False)[0]
        return video_BCFHW

    def _to_latents(self, video_BCFHW: Tensor) -> Tensor:
        # `invert_scale_latents` of 1.5 is about the image of image-to-video; text-to-video decodes with z / scale.
        latents_BCFHW = self.vae.encode(video_BCFHW).latent_dist.mode() * self.vae.config.scaling_factor
        latents_B: Tensor = latents_BCFHW.permute(0, 2, 1, 3, 4)
        return torch.cat([latents_B[:, :1]] * self._padding + [latents_B], dim=1)
