"""VideoScore's second network: Qwen2-VL with a regression head. For VideoScore-Qwen2-VL.

Legend: B videos, F frames, H W pixels, N patches and P values of a patch, L tokens, E width of the decoder,
D = 5 dimensions.

It differs from Qwen2-VL in transformers where the reference does:

1. Positions are 0..L-1 on all three rotary axes, for video tokens too.
2. No language head. A linear head with bias reads the last token, or one head per dimension reads a token of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from transformers import Qwen2VLConfig
from transformers.models.qwen2_vl.modeling_qwen2_vl import (
    Qwen2VisionTransformerPretrainedModel,
    Qwen2VLRotaryEmbedding,
    Qwen2VLTextModel,
    Qwen2VLVisionRotaryEmbedding,
)

from policies.rewards.videoreward.pixels import FrameRules, patches
from policies.rewards.videoscore.inputs import FramesInput
from policies.rewards.videoscore.template import DIMENSIONS


class Qwen2VLScoreNetwork(nn.Module):
    """The network, under the published names of its weights.

    Args:
        config: of the checkpoint.
        rules: patches of the image processor.
        label_token_ids: the token that each dimension is read at; empty: all of them at the last token.
    """

    def __init__(self, config: Qwen2VLConfig, *, rules: FrameRules, label_token_ids: Sequence[int] = ()) -> None:
        super().__init__()
        self.visual = Qwen2VisionTransformerPretrainedModel._from_config(config.vision_config)
        self.model = Qwen2VLTextModel._from_config(config.text_config)
        width = config.text_config.hidden_size
        self.score = (
            nn.ModuleList(nn.Linear(width, 1) for _ in DIMENSIONS)
            if label_token_ids
            else nn.Linear(width, len(DIMENSIONS))
        )
        self._rules, self.vision_token_id = rules, int(config.video_token_id)
        self.patch_size = rules.patch_size
        self._label_token_ids = tuple(label_token_ids)

    @property
    def device(self) -> torch.device:
        """Where the weights lie."""
        return self.model.norm.weight.device  # type: ignore[no-any-return]

    def finish_loading(self) -> None:
        """To be called once weights are in place: position tables where they lie, in float32 whatever they are in."""
        with torch.device("cpu"):
            text = Qwen2VLRotaryEmbedding(self.model.config)
            vision = Qwen2VLVisionRotaryEmbedding(self.visual.config)
        self.model.rotary_emb, self.visual.rotary_pos_emb = text.to(self.device), vision.to(self.device)

    def pixels(self, frames_FCHW: Tensor) -> Tensor:
        """What the vision tower takes, (N, P) float32."""
        return patches(frames_FCHW.float(), self._rules)[0]

    def towers(self) -> Mapping[str, nn.Module]:
        """See ScoreNetwork."""
        return {"visual_out": self.visual}

    def decoder(self) -> Any:
        """See ScoreNetwork."""
        return self.model

    def read_positions(self, ids_L: Tensor) -> Tensor:
        """The last token, or the token of each dimension."""
        if not self._label_token_ids:
            return torch.tensor([len(ids_L) - 1])
        return torch.cat([(ids_L == token).nonzero()[-1] for token in self._label_token_ids])

    def forward(self, inputs: Sequence[FramesInput]) -> Tensor:
        """Raw scores (B, D) float32 of videos of any lengths and sizes, differentiable with respect to their frames."""
        features = self._features([video.frames_FCHW for video in inputs])
        embedded = [self._embed(video.ids_L, rows) for video, rows in zip(inputs, features, strict=True)]
        padded_BLE = pad_sequence(embedded, batch_first=True)
        batch_size, length = padded_BLE.shape[:2]
        # tokens see only what comes before them, so padding on the right needs no mask
        hidden_BLE = self.model(
            inputs_embeds=padded_BLE,
            position_ids=torch.arange(length, device=self.device).expand(3, batch_size, length),
            use_cache=False,
        ).last_hidden_state
        return torch.stack(
            [
                self._head(rows_LE[self.read_positions(video.ids_L).to(self.device)])
                for video, rows_LE in zip(inputs, hidden_BLE, strict=True)
            ]
        ).float()

    def _head(self, rows: Tensor) -> Tensor:
        """Scores (D,) of the states (1, E) or (D, E) that they are read from."""
        if isinstance(self.score, nn.ModuleList):
            return torch.cat([head(row_E) for head, row_E in zip(self.score, rows, strict=True)])
        scores_D: Tensor = self.score(rows[0])
        return scores_D

    def _features(self, videos: Sequence[Tensor]) -> list[Tensor]:
        """Features (video tokens, E) of each video."""
        pairs = [patches(frames_FCHW.to(self.device).float(), self._rules) for frames_FCHW in videos]
        grids_B3 = torch.tensor([grid for _, grid in pairs], device=self.device)
        patches_NP = torch.cat([patches_NP for patches_NP, _ in pairs]).to(self.visual.dtype)
        features = self.visual(patches_NP, grid_thw=grids_B3).pooler_output
        counts: list[int] = (grids_B3.prod(-1) // self._rules.merge_size**2).tolist()
        return list(torch.split(features, counts))

    def _embed(self, ids_L: Tensor, features: Tensor) -> Tensor:
        ids_L = ids_L.to(self.device)
        words_LE: Tensor = self.model.embed_tokens(ids_L)
        return words_LE.masked_scatter((ids_L == self.vision_token_id)[:, None], features)
