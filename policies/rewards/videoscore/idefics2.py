"""VideoScore's first network: Idefics2 with a regression head. For v1, v1.1 and anno-only.

Legend: B videos, F frames of one video, N frames of one size, H W pixels, L tokens, E width of the decoder, M latents
per frame, D = 5 dimensions.

It differs from Idefics2 in transformers where the reference does:

1. Position buckets of the vision tower come from the reference's formula; see `position_ids`.
2. The perceiver takes width and epsilon from the decoder's config, since published configs do not have them.
3. No language head; a linear head with bias reads the last token.

Frames are never padded: those of one size share a forward of the vision tower, so no patch needs a mask.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from transformers import Idefics2Config, Idefics2Model, MistralConfig
from transformers.models.mistral.modeling_mistral import MistralRotaryEmbedding

from policies.errors import InputError
from policies.rewards.videoscore.inputs import FramesInput
from policies.rewards.videoscore.pixels import ImageRules, normalised
from policies.rewards.videoscore.template import DIMENSIONS

_FRAMES_AT_ONCE_ON_CPU = 2
"""Of the vision tower, as in the reference. More are slower there: they outgrow the caches."""


def idefics2_config(published: Mapping[str, Any]) -> Idefics2Config:
    """The config of a published config.json, with what the reference takes from elsewhere.

    Raises:
        InputError: its decoder is not a Mistral, the only one there is code for.
    """
    if published["text_config"].get("model_type", "mistral") != "mistral":
        raise InputError(
            f"config.json: text_config is of a {published['text_config']['model_type']}; VideoScore's is a mistral"
        )
    text = MistralConfig(**published["text_config"])
    perceiver = {"hidden_size": text.hidden_size, "rms_norm_eps": text.rms_norm_eps}
    return Idefics2Config(
        image_token_id=published["image_token_id"],
        text_config=text,
        vision_config=dict(published["vision_config"]),
        perceiver_config={**published["perceiver_config"], **perceiver},
    )


class Idefics2ScoreNetwork(nn.Module):
    """The network, under the published names of its weights.

    Args:
        config: see `idefics2_config`.
        rules: of the image processor; the scale of pixels.
        image_token_id: of the tokenizer: where latents go.
    """

    def __init__(self, config: Idefics2Config, *, rules: ImageRules, image_token_id: int) -> None:
        super().__init__()
        self.model = Idefics2Model(config)
        self.model.vision_model.embeddings = _PatchEmbeddings(config.vision_config)
        self.score = nn.Linear(config.text_config.hidden_size, len(DIMENSIONS))
        self._rules, self.vision_token_id = rules, image_token_id
        self.patch_size = int(config.vision_config.patch_size)

    @property
    def device(self) -> torch.device:
        """Where the weights lie."""
        return self.score.weight.device

    def finish_loading(self) -> None:
        """To be called once weights are in place: what depends on where they lie, and in which precision."""
        with torch.device("cpu"):
            rotary = MistralRotaryEmbedding(self.model.config.text_config)
        self.model.text_model.rotary_emb = rotary.to(self.device)
        # with the reference's order of rounding, scores in bfloat16 on CPU are its own to the last bit
        is_eager = self.score.weight.dtype == torch.bfloat16 and self.score.weight.is_cpu
        self.model.set_attn_implementation("eager" if is_eager else "sdpa")

    def pixels(self, frames_FCHW: Tensor) -> Tensor:
        """What the vision tower takes, (F, 3, H, W) float32."""
        return normalised(frames_FCHW, self._rules)

    def towers(self) -> Mapping[str, nn.Module]:
        """See ScoreNetwork."""
        return {"vision_out": self.model.vision_model, "connector_out": self.model.connector}

    def decoder(self) -> Any:
        """See ScoreNetwork."""
        return self.model.text_model

    def read_positions(self, ids_L: Tensor) -> Tensor:
        """The last token: the space after the last frame."""
        return torch.tensor([len(ids_L) - 1])

    def forward(self, inputs: Sequence[FramesInput]) -> Tensor:
        """Raw scores (B, D) float32 of videos of any lengths and sizes, differentiable with respect to their frames."""
        latents = self._latents([video.frames_FCHW for video in inputs])
        embedded = [self._embed(video.ids_L, rows) for video, rows in zip(inputs, latents, strict=True)]
        # tokens see only what comes before them, so padding on the right needs no mask
        output = self.model.text_model(inputs_embeds=pad_sequence(embedded, batch_first=True), use_cache=False)
        last_B = torch.tensor([len(rows) - 1 for rows in embedded], device=self.device)
        rows_BE = output.last_hidden_state[torch.arange(len(inputs), device=self.device), last_B]
        scores_BD: Tensor = self.score(rows_BE)
        return scores_BD.float()

    def _latents(self, videos: Sequence[Tensor]) -> list[Tensor]:
        """Latents (F M, E) of each video."""
        groups: dict[torch.Size, list[int]] = {}
        for index, frames_FCHW in enumerate(videos):
            groups.setdefault(frames_FCHW.shape[2:], []).append(index)
        latents: dict[int, Tensor] = {}
        for members in groups.values():
            frames_NCHW = torch.cat([videos[index] for index in members]).to(self.device)
            step = _FRAMES_AT_ONCE_ON_CPU if frames_NCHW.is_cpu else len(frames_NCHW)
            encoded_NME = torch.cat([self._encode(frames) for frames in torch.split(frames_NCHW, step)])
            parts = torch.split(encoded_NME, [len(videos[index]) for index in members])
            latents |= {index: part.flatten(0, 1) for index, part in zip(members, parts, strict=True)}
        return [latents[index] for index in range(len(videos))]

    def _encode(self, frames_NCHW: Tensor) -> Tensor:
        pixels_NCHW = self.pixels(frames_NCHW).to(self.score.weight.dtype)
        patches = self.model.vision_model(pixel_values=pixels_NCHW).last_hidden_state
        is_patch = torch.ones(patches.shape[:2], dtype=torch.bool, device=self.device)
        latents_NME: Tensor = self.model.connector(patches, attention_mask=is_patch)
        return latents_NME

    def _embed(self, ids_L: Tensor, latents: Tensor) -> Tensor:
        ids_L = ids_L.to(self.device)
        words_LE: Tensor = self.model.text_model.embed_tokens(ids_L)
        return words_LE.masked_scatter((ids_L == self.vision_token_id)[:, None], latents)


class _PatchEmbeddings(nn.Module):
    """Patches of unpadded frames with learned positions, under the names of transformers' module."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.patch_embedding = nn.Conv2d(
            config.num_channels, config.hidden_size, kernel_size=config.patch_size, stride=config.patch_size
        )
        self.per_side = config.image_size // config.patch_size
        self.position_embedding = nn.Embedding(self.per_side**2, config.hidden_size)

    def forward(self, pixel_values: Tensor, patch_attention_mask: Tensor) -> Tensor:
        """Embeddings (N, patches, width) of frames (N, 3, H, W); rest of a patch at the lower and right edge is cut."""
        patches = self.patch_embedding(pixel_values)
        ids = position_ids(patches.shape[2], patches.shape[3], per_side=self.per_side).to(pixel_values.device)
        embeddings: Tensor = patches.flatten(2).transpose(1, 2) + self.position_embedding(ids)
        return embeddings


@lru_cache(maxsize=64)
def position_ids(rows: int, columns: int, *, per_side: int) -> Tensor:
    """Which of per_side x per_side learned positions each of rows x columns patches takes, int64 (rows columns,).

    As the reference has it: fractions of a side from `arange` with a step rounded to float32. Products of index and
    step, which transformers takes now, give other buckets for 49 and 58 patches. On CPU and in float32 whatever the
    network has, since `arange` differs between devices and has too few digits in bfloat16.
    """
    boundaries = torch.arange(1 / per_side, 1.0, 1 / per_side, dtype=torch.float32, device="cpu")
    row_ids, column_ids = (torch.bucketize(_fractions(count), boundaries, right=True) for count in (rows, columns))
    return (row_ids[:, None] * per_side + column_ids).flatten()


def _fractions(count: int) -> Tensor:
    step = (1 / torch.tensor(count, dtype=torch.float32, device="cpu")).item()
    return torch.arange(0, 1 - 1e-6, step, dtype=torch.float32, device="cpu")
