"""What all families share: a diffusers pipeline with LoRA weight sets on its transformer.

Sampling goes through the pipeline's own `__call__`, so that a stranger's plain call with the same noise gives the same
latents. What differs between families (time, layout, prediction type, latent normalisation, sizes) is abstract here.
Shape letters and the meaning of `u` and `t`: see `policies/policy.py`.
"""

from __future__ import annotations

import abc
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, ClassVar, final

import numpy as np
import torch
from diffusers import DiffusionPipeline
from torch import Tensor

from policies.lora import LoraWeightSets
from policies.policy import PromptEmbedding
from policies.text import PromptEmbeddings
from policies.types import Sampling, VideoShape

# A decode or encode takes as many videos at once as have this many pixels: all of a group of tiny ones (a third of the
# time), one at a time from 480p. Videos do not meet inside the VAE, so this changes memory, not the result.
_PIXELS_AT_ONCE = 1 << 23


class DiffusersPolicy(abc.ABC):
    """A text-to-video pipeline of diffusers as a `VideoPolicy`. Families fill in the abstract part."""

    pipeline_class: ClassVar[type[Any]]
    transformer_class: ClassVar[type[Any]]
    vae_class: ClassVar[type[Any]]
    scheduler_classes: ClassVar[tuple[type[Any], ...]]  # noise schedulers that sample deterministically from a seed
    default_lora_targets: ClassVar[tuple[str, ...]]

    def __init__(self, pipeline: DiffusionPipeline, *, lora: LoraWeightSets, embeddings: PromptEmbeddings) -> None:
        """Takes parts that `policies.load.load_policy` has loaded and checked."""
        self.pipeline = pipeline
        self.pipeline.set_progress_bar_config(disable=True)
        self.transformer = pipeline.transformer
        self.vae = pipeline.vae
        self.device: torch.device = self.transformer.device
        self.dtype: torch.dtype = self.transformer.dtype
        self._lora = lora
        self._embeddings = embeddings

    @property
    @abc.abstractmethod
    def family(self) -> str: ...

    # -- what a family fills in ------------------------------------------------------------------------------------
    @classmethod
    @abc.abstractmethod
    def check_pipeline(cls, pipeline: DiffusionPipeline) -> None:
        """Raises InputError when this checkpoint is of a kind that the family does not cover."""

    @abc.abstractmethod
    def check_shape(self, shape: VideoShape) -> None: ...

    @abc.abstractmethod
    def latent_shape(self, shape: VideoShape) -> tuple[int, int, int, int]: ...

    @abc.abstractmethod
    def times(self, u_B: Tensor) -> Tensor: ...

    @abc.abstractmethod
    def add_noise(self, clean_B: Tensor, noise_B: Tensor, t_B: Tensor) -> Tensor: ...

    @abc.abstractmethod
    def target(self, clean_B: Tensor, noise_B: Tensor, t_B: Tensor) -> Tensor: ...

    @abc.abstractmethod
    def clean(self, noisy_B: Tensor, prediction_B: Tensor, t_B: Tensor) -> Tensor: ...

    @abc.abstractmethod
    def noise_error_weight(self, t_B: Tensor) -> Tensor: ...

    @abc.abstractmethod
    def _forward(self, noisy_B: Tensor, t_B: Tensor, text_BLD: Tensor) -> Tensor:
        """One call of the transformer; `noisy_B` and `text_BLD` have its precision."""

    @abc.abstractmethod
    def _to_video(self, latents_B: Tensor) -> Tensor:
        """Normalised latents to a video (B, 3, F, H, W) in [-1, 1]."""

    @abc.abstractmethod
    def _to_latents(self, video_BCFHW: Tensor) -> Tensor:
        """The inverse of `_to_video`: normalised latents, the mode of the posterior."""

    def check_text_length(self, max_sequence_length: int) -> None:  # noqa: B027 - most families take any length
        """Raises InputError when the transformer cannot take so many text tokens."""

    # -- text ------------------------------------------------------------------------------------------------------
    @final
    def embed(self, texts: Sequence[str], *, max_sequence_length: int) -> list[PromptEmbedding]:
        self.check_text_length(max_sequence_length)
        return self._embeddings.embed(texts, max_sequence_length=max_sequence_length)

    @final
    def release_text_encoder(self) -> None:
        self._embeddings.release()

    # -- sampling --------------------------------------------------------------------------------------------------
    @final
    def sample(
        self,
        embedding: PromptEmbedding,
        negative: PromptEmbedding | None,
        seeds: Sequence[int],
        *,
        shape: VideoShape,
        sampling: Sampling,
    ) -> Tensor:
        self.check_shape(shape)
        is_guided = sampling.guidance_scale > 1
        if is_guided and negative is None:
            raise ValueError(f"guidance_scale {sampling.guidance_scale} needs the embedding of the negative prompt")
        # One generator per candidate, on CPU: it draws the initial noise here and, where the noise scheduler is
        # stochastic, goes on to draw that candidate's noise inside the pipeline.
        rngs = [torch.Generator().manual_seed(seed) for seed in seeds]
        noise_B = torch.stack([torch.randn(self.latent_shape(shape), generator=rng) for rng in rngs])
        output = self.pipeline(
            prompt_embeds=self._repeated(embedding, len(seeds)),
            negative_prompt_embeds=self._repeated(negative, len(seeds)) if is_guided and negative is not None else None,
            height=shape.height,
            width=shape.width,
            num_frames=shape.num_frames,
            num_inference_steps=sampling.num_inference_steps,
            guidance_scale=sampling.guidance_scale,
            generator=rngs,
            latents=noise_B.to(self.device, self._noise_dtype),
            output_type="latent",
        )
        latents_B: Tensor = output.frames.float()
        return latents_B

    @property
    def _noise_dtype(self) -> torch.dtype:
        """Precision in which the pipeline wants the initial noise."""
        return torch.float32

    def _repeated(self, embedding: Tensor, count: int) -> Tensor:
        return embedding.to(self.device, self.dtype).expand(count, -1, -1)

    @final
    @torch.no_grad()
    def decode(self, latents_B: Tensor) -> np.ndarray:
        frames = []
        for part_B in torch.split(latents_B.to(self.device, torch.float32), self._videos_at_once(latents_B)):
            pixels_BCFHW = (self._to_video(part_B) / 2 + 0.5).clamp(0, 1).mul(255).round().to(torch.uint8)
            frames.append(pixels_BCFHW.permute(0, 2, 3, 4, 1).cpu())
        return torch.cat(frames).contiguous().numpy()

    def _videos_at_once(self, latents_B: Tensor) -> int:
        scale: int = self.pipeline.vae_scale_factor_spatial**2 * self.pipeline.vae_scale_factor_temporal
        return max(1, _PIXELS_AT_ONCE // (latents_B[0].numel() // self.vae_channels * scale))

    @property
    @abc.abstractmethod
    def vae_channels(self) -> int:
        """C of a latent."""

    @final
    @torch.no_grad()
    def encode(self, frames_B: np.ndarray) -> Tensor:
        at_once = max(1, _PIXELS_AT_ONCE // (frames_B[0].size // 3))
        latents = []
        for start in range(0, len(frames_B), at_once):
            pixels = torch.from_numpy(frames_B[start : start + at_once]).to(self.device, torch.float32)
            latents.append(self._to_latents(pixels.permute(0, 4, 1, 2, 3) / 127.5 - 1))
        return torch.cat(latents)

    # -- prediction ------------------------------------------------------------------------------------------------
    @final
    def predict(self, noisy_B: Tensor, t_B: Tensor, embeddings_B: Sequence[PromptEmbedding]) -> Tensor:
        lengths = {len(embedding) for embedding in embeddings_B}
        if len(lengths) != 1:
            # Padding here would change the model's input: neither family masks its text.
            raise ValueError(f"embeddings of one batch must have one length, got {sorted(lengths)}")
        text_BLD = torch.stack(list(embeddings_B)).to(self.device, self.dtype)
        prediction_B = self._forward(noisy_B.to(self.device, self.dtype), t_B.to(self.device), text_BLD)
        return prediction_B.float()

    # -- weight sets -----------------------------------------------------------------------------------------------
    @property
    def weight_sets(self) -> tuple[str, ...]:
        return self._lora.weight_sets

    @final
    def use(self, which: str | None) -> AbstractContextManager[None]:
        return self._lora.use(which)

    @final
    def trainable(self) -> Iterator[tuple[str, torch.nn.Parameter]]:
        return self._lora.trainable()

    @final
    def export(self, which: str) -> dict[str, Tensor]:
        return self._lora.export(which)

    @final
    def load(self, which: str, tensors: Mapping[str, Tensor]) -> None:
        self._lora.load(which, tensors)

    @final
    def blend(self, source: str, target: str, *, weight: float = 1.0) -> None:
        self._lora.blend(source, target, weight=weight)

    @final
    def save_lora(self, folder: Path, which: str, *, metadata: Mapping[str, str] | None = None) -> None:
        self._lora.save(folder, which, metadata=metadata)

    @final
    def set_gradient_checkpointing(self, enabled: bool) -> None:
        if enabled:
            self.transformer.enable_gradient_checkpointing()
        else:
            self.transformer.disable_gradient_checkpointing()


def per_sample(values_B: Tensor, like: Tensor) -> Tensor:
    """(B,) as (B, 1, 1, ...), to multiply each sample by its own number."""
    return values_B.to(like.device, torch.float32).reshape(-1, *[1] * (like.ndim - 1))
