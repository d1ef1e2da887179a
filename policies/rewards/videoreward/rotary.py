"""Rotary position tables as the published VideoReward has them.

The reference casts its whole model to bfloat16, and with it the inverse frequencies of the rotary embeddings. That
moves scores more than everything else bfloat16 does, so the published numbers need it in float32 too.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from transformers import Qwen2VLModel
from transformers.models.qwen2_vl.modeling_qwen2_vl import Qwen2VLRotaryEmbedding, Qwen2VLVisionRotaryEmbedding

Rotary = Literal["exact", "published"]
"""exact: tables in float32 from exact frequencies; published: from frequencies rounded to bfloat16."""


def set_rotary(model: Qwen2VLModel, rotary: Rotary) -> None:
    """Gives the text and the vision side new tables, whatever precision the model was cast to before."""
    device = model.device
    with torch.device("cpu"):
        text = Qwen2VLRotaryEmbedding(model.config.text_config)
        vision = Qwen2VLVisionRotaryEmbedding(model.config.vision_config)
    if rotary == "published":
        text.inv_freq = text.inv_freq.bfloat16().float()
        vision = _RoundedVisionRotary(vision.inv_freq)
    model.language_model.rotary_emb = text.to(device)
    model.visual.rotary_pos_emb = vision.to(device)


class _RoundedVisionRotary(nn.Module):
    """Frequencies, their products with rows and columns, and cosine and sine, each rounded to bfloat16."""

    def __init__(self, frequencies_D: Tensor) -> None:
        super().__init__()
        self.register_buffer("inv_freq", frequencies_D.bfloat16().float(), persistent=False)

    @torch.no_grad()
    def forward(self, hidden_ND: Tensor, positions_N2: Tensor) -> tuple[Tensor, Tensor]:
        """Cosine and sine (N, 4 D) float32 of patches at (row, column)."""
        frequencies_D = self.get_buffer("inv_freq").bfloat16()
        angles_N = (positions_N2[..., None].bfloat16() * frequencies_D).flatten(1)  # row angles, then column angles
        angles_N = torch.cat([angles_N, angles_N], dim=-1)
        return angles_N.cos().float(), angles_N.sin().float()
