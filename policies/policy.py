"""What the rest of the system needs from a video model, whatever its family.

A family owns everything that differs between models: sign and time scale, latent layout, prediction type, latent
normalisation, text encoding and LoRA targets. Nothing above this protocol knows which family it talks to.

Shape letters: B samples; a latent is one sample in the family's own memory order, (C, F, H, W) for Wan and
(F, C, H, W) for CogVideoX; `u` is the noise fraction in [0, 1] that a density draws (1: pure noise); `t` is the
family's own time, as its network is fed (Wan: 1000 sigma, float; CogVideoX: integer 0..999, as int64).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol, TypeAlias

import numpy as np
import torch
from torch import Tensor

from policies.types import Sampling, VideoShape

# Named LoRA weight sets on one frozen base. `behaviour` is what candidates are sampled with (in one process it lies
# beside the two that the learner owns), `policy` is trained, `reference` anchors the objective.
WEIGHT_SETS = ("policy", "reference", "behaviour")

PromptEmbedding: TypeAlias = Tensor  # (L, D) on CPU, in the precision of the base; one prompt, padding included


class VideoPolicy(Protocol):
    """A text-to-video model with named LoRA weight sets."""

    @property
    def family(self) -> str: ...

    @property
    def device(self) -> torch.device: ...

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the frozen base; LoRA weights are always float32."""
        ...

    @property
    def weight_sets(self) -> tuple[str, ...]:
        """The weight sets in memory; the first is in use outside every `use` block."""
        ...

    # -- text and shape ------------------------------------------------------------------------------------------
    def embed(self, texts: Sequence[str], *, max_sequence_length: int) -> list[PromptEmbedding]:
        """One embedding per text, from a cache; the text encoder is needed only for texts not seen before.

        Raises InputError when the family cannot take so many tokens or the text encoder cannot be loaded."""
        ...

    def release_text_encoder(self) -> None:
        """Frees the text encoder. A later unseen text loads it again."""
        ...

    def check_shape(self, shape: VideoShape) -> None:
        """Raises InputError with the nearest sizes that fit, when the family cannot take this size."""
        ...

    def latent_shape(self, shape: VideoShape) -> tuple[int, int, int, int]:
        """Shape of one latent of such a video, in the family's order."""
        ...

    # -- sampling ------------------------------------------------------------------------------------------------
    def sample(
        self,
        embedding: PromptEmbedding,
        negative: PromptEmbedding | None,
        seeds: Sequence[int],
        *,
        shape: VideoShape,
        sampling: Sampling,
    ) -> Tensor:
        """Draws one latent per seed as one batch with the weight set in use. Noise is drawn on CPU, per seed.

        `negative` is the embedding of the negative prompt; it is needed, and used, when `sampling.guidance_scale` is
        above 1.

        Returns: normalised latents (B, *latent), float32, on the policy's device. A plain call of the diffusers
            pipeline with one `torch.Generator().manual_seed(seed)` per video gives the same (a bfloat16 CogVideoX
            pipeline draws its noise in bfloat16, so there pass the noise as `latents`).
        """
        ...

    def decode(self, latents_B: Tensor) -> np.ndarray:
        """Latents (B, *latent) to frames, uint8 (B, F, H, W, 3). No tiling: seams would enter the reward."""
        ...

    def encode(self, frames_B: np.ndarray) -> Tensor:
        """Frames, uint8 (B, F, H, W, 3), to normalised latents (B, *latent) float32: the mode of the posterior."""
        ...

    # -- the diffusion process -------------------------------------------------------------------------------------
    def times(self, u_B: Tensor) -> Tensor:
        """Noise fractions (B,) in [0, 1] to the family's time (B,)."""
        ...

    def add_noise(self, clean_B: Tensor, noise_B: Tensor, t_B: Tensor) -> Tensor:
        """x_t of clean latents; t differs per sample."""
        ...

    def target(self, clean_B: Tensor, noise_B: Tensor, t_B: Tensor) -> Tensor:
        """What the network should predict at x_t: noise - clean for flow matching, v for v-prediction."""
        ...

    def predict(self, noisy_B: Tensor, t_B: Tensor, embeddings_B: Sequence[PromptEmbedding]) -> Tensor:
        """The network's prediction (B, *latent), float32, without guidance, with the weight set in use.

        One time and one embedding per sample; all embeddings of a batch have one length, since text is not masked and
        padding would change the input. Follows the caller's grad mode."""
        ...

    def clean(self, noisy_B: Tensor, prediction_B: Tensor, t_B: Tensor) -> Tensor:
        """x_0 that a prediction at x_t implies: one Euler step from x_t to 0."""
        ...

    def noise_error_weight(self, t_B: Tensor) -> Tensor:
        """Factor (B,) that turns a squared prediction error into a squared noise error: (1-t)^2 for flow matching,
        the cumulative alpha for v-prediction. Flow-DPO's decaying beta (arXiv 2501.13918) is beta times this."""
        ...

    # -- weight sets -----------------------------------------------------------------------------------------------
    def use(self, which: str | None) -> AbstractContextManager[None]:
        """Within the block, forwards use this weight set (None: the frozen base alone). Only `policy` requires
        gradients, always. Never leave the block between a forward and its backward: a checkpointed backward would
        recompute with other weights, an uncheckpointed one would find no gradient."""
        ...

    def trainable(self) -> Iterator[tuple[str, torch.nn.Parameter]]:
        """The parameters of weight set `policy`, by stable sorted names."""
        ...

    def export(self, which: str) -> dict[str, Tensor]:
        """A copy of a weight set: stable names (the same for every set), float32, on CPU."""
        ...

    def load(self, which: str, tensors: Mapping[str, Tensor]) -> None:
        """Copies tensors into a weight set in place. Raises WeightsMismatchError on unknown, missing or misshaped."""
        ...

    def blend(self, source: str, target: str, *, weight: float = 1.0) -> None:
        """target <- (1-weight) target + weight source, in place; 1 copies exactly and never aliases."""
        ...

    def save_lora(self, folder: Path, which: str, *, metadata: Mapping[str, str] | None = None) -> None:
        """Writes a weight set as diffusers' `load_lora_weights` reads it, rank and alpha in the metadata."""
        ...

    def set_gradient_checkpointing(self, enabled: bool) -> None: ...
