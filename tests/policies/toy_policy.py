"""A video model of some hundred parameters with everything a VideoPolicy has: flow matching, LoRA weight sets, text.

Small enough that a test of the learner takes milliseconds; everything above the network is what a real family has.
A latent is (2, F, H, W).
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from policies.errors import InputError, WeightsMismatchError
from policies.policy import WEIGHT_SETS, PromptEmbedding
from policies.types import Sampling, VideoShape

CHANNELS, WIDTH, TEXT_WIDTH, RANK = 2, 8, 4, 2
SHAPE = VideoShape(num_frames=3, height=4, width=4)
WIDE_SHAPE = VideoShape(num_frames=2, height=4, width=6)


class ToyPolicy:
    family = "toy"
    dtype = torch.float32
    weight_sets = WEIGHT_SETS

    def __init__(self, *, seed: int = 0) -> None:
        self.device = torch.device("cpu")
        rng = torch.Generator().manual_seed(seed)
        self._inner = [torch.randn(WIDTH, i, generator=rng) / i**0.5 for i in (CHANNELS, WIDTH, WIDTH)]
        self._outer = torch.randn(CHANNELS, WIDTH, generator=rng) / WIDTH**0.5
        self._text = torch.randn(WIDTH, TEXT_WIDTH, generator=rng)
        start = {f"layer{i}.{m}": t for i in range(2) for m, t in (
            ("lora_A", torch.randn(RANK, WIDTH, generator=rng)), ("lora_B", torch.zeros(WIDTH, RANK)))}  # fmt: skip
        self._sets = {which: {name: nn.Parameter(t.clone(), requires_grad=which == "policy")
                              for name, t in start.items()} for which in WEIGHT_SETS}  # fmt: skip
        self._active: str | None = "policy"
        self._is_checkpointing = False
        self.uses: list[str | None] = []
        self.predictions: list[tuple[str | None, Tensor, Tensor]] = []

    # -- text and shape
    def embed(self, texts: Sequence[str], *, max_sequence_length: int) -> list[PromptEmbedding]:
        rngs = [torch.Generator().manual_seed(zlib.crc32(text.encode())) for text in texts]
        return [torch.randn(max_sequence_length, TEXT_WIDTH, generator=rng) for rng in rngs]

    def release_text_encoder(self) -> None: ...

    def check_shape(self, shape: VideoShape) -> None:
        if shape.height % 2:
            raise InputError(f"height {shape.height} is odd")

    def latent_shape(self, shape: VideoShape) -> tuple[int, int, int, int]:
        return CHANNELS, shape.num_frames, shape.height, shape.width

    # -- sampling
    def sample(self, embedding: PromptEmbedding, negative: PromptEmbedding | None, seeds: Sequence[int], *,
               shape: VideoShape, sampling: Sampling) -> Tensor:  # fmt: skip
        x_B = torch.stack([torch.randn(self.latent_shape(shape), generator=torch.Generator().manual_seed(seed))
                           for seed in seeds])  # fmt: skip
        steps = sampling.num_inference_steps
        with torch.no_grad():
            for step in range(steps):
                t_B = torch.full((len(seeds),), 1000 * (1 - step / steps))
                x_B = x_B - self.predict(x_B, t_B, [embedding] * len(seeds)) / steps
        return x_B

    def decode(self, latents_B: Tensor) -> np.ndarray:
        gray_B = (latents_B[:, 0].sigmoid() * 255).round().to(torch.uint8)
        return gray_B[..., None].expand(*gray_B.shape, 3).numpy()

    def encode(self, frames_B: np.ndarray) -> Tensor:
        gray_B = torch.tensor(frames_B[..., 0]).float() / 255
        return torch.stack([gray_B, gray_B], dim=1)

    # -- the diffusion process
    def times(self, u_B: Tensor) -> Tensor:
        return 1000 * u_B

    def add_noise(self, clean_B: Tensor, noise_B: Tensor, t_B: Tensor) -> Tensor:
        return clean_B.lerp(noise_B, _wide(t_B / 1000))

    def target(self, clean_B: Tensor, noise_B: Tensor, t_B: Tensor) -> Tensor:
        return noise_B - clean_B

    def predict(self, noisy_B: Tensor, t_B: Tensor, embeddings_B: Sequence[PromptEmbedding]) -> Tensor:
        self.predictions.append((self._active, noisy_B.detach(), t_B))

        def block(layer: int, h: Tensor) -> Tensor:
            if self._active is None:  # asked again when a checkpoint recomputes, as peft does
                return torch.tanh(h @ self._inner[layer + 1].T) + h
            lora = self._sets[self._active]
            low = h @ lora[f"layer{layer}.lora_A"].T @ lora[f"layer{layer}.lora_B"].T
            return torch.tanh(h @ self._inner[layer + 1].T + low) + h

        text_B = torch.stack([e.mean(0) for e in embeddings_B]) @ self._text.T
        h = noisy_B.movedim(1, -1) @ self._inner[0].T + (text_B + t_B[:, None] / 1000)[:, None, None, None]
        for layer in range(2):
            h = checkpoint(block, layer, h, use_reentrant=False) if self._is_checkpointing else block(layer, h)
        prediction_B: Tensor = (h @ self._outer.T).movedim(-1, 1)
        return prediction_B

    def clean(self, noisy_B: Tensor, prediction_B: Tensor, t_B: Tensor) -> Tensor:
        return noisy_B - _wide(t_B / 1000) * prediction_B

    def noise_error_weight(self, t_B: Tensor) -> Tensor:
        return (1 - t_B / 1000) ** 2

    # -- weight sets
    @contextmanager
    def use(self, which: str | None) -> Iterator[None]:
        self.uses.append(which)
        before, self._active = self._active, which
        try:
            yield
        finally:
            self._active = before

    def trainable(self) -> Iterator[tuple[str, nn.Parameter]]:
        yield from sorted(self._sets["policy"].items())

    def export(self, which: str) -> dict[str, Tensor]:
        return {name: t.detach().clone() for name, t in sorted(self._sets[which].items())}

    def load(self, which: str, tensors: Mapping[str, Tensor]) -> None:
        if set(tensors) != set(self._sets[which]):
            raise WeightsMismatchError(f"{sorted(tensors)} are not the weights of {which}")
        with torch.no_grad():
            for name, weight in self._sets[which].items():
                weight.copy_(tensors[name])

    def blend(self, source: str, target: str, *, weight: float = 1.0) -> None:
        with torch.no_grad():
            for name, t in self._sets[target].items():
                t.copy_(self._sets[source][name] if weight == 1 else t.lerp(self._sets[source][name], weight))

    def save_lora(self, folder: Path, which: str, *, metadata: Mapping[str, str] | None = None) -> None:
        raise NotImplementedError("the toy is no diffusers model")

    def set_gradient_checkpointing(self, enabled: bool) -> None:
        self._is_checkpointing = enabled


def _wide(t_B: Tensor) -> Tensor:
    return t_B.reshape(-1, 1, 1, 1, 1)
