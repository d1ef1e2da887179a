"""Attention of the vision tower: the patches of a pair of frames see each other, and nothing else.

Legend: N patches of all videos, S heads, K width of a head, G pairs of frames of equal size, n patches of one.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import Qwen2VLModel
from transformers.models.qwen2_vl.modeling_qwen2_vl import apply_rotary_pos_emb_vision

_LARGEST_TABLE = 2**28
"""Entries of S x N x N up to which `_by_mask` is used: 1 GiB in float32."""


def set_vision_attention(model: Qwen2VLModel) -> None:
    """Gives every block of the vision tower this module's attention, on the same weights and under the same names."""
    for block in model.visual.blocks:
        block.attn = FrameAttention(block.attn.qkv, block.attn.proj, heads=block.attn.num_heads)


class FrameAttention(nn.Module):
    """Multi-head attention within pairs of frames, in one of two orders of rounding.

    In bfloat16 on CPU, as long as its table is small, it takes one masked softmax over all patches, as the reference
    does without flash attention: scores then are the reference's to the last bit. Otherwise it takes one call for all
    pairs of equal size, which computes nothing in vain.
    """

    def __init__(self, qkv: nn.Linear, proj: nn.Linear, *, heads: int) -> None:
        super().__init__()
        self.qkv, self.proj, self.heads = qkv, proj, heads

    def forward(
        self, hidden_NE: Tensor, cu_seqlens: Tensor, position_embeddings: tuple[Tensor, Tensor], **_: object
    ) -> Tensor:
        """Attention output, shaped as its input.

        Args:
            hidden_NE: of all videos, one after another.
            cu_seqlens: where each pair of frames begins, and N; int (pairs + 1,).
            position_embeddings: cosine and sine (N, K).
        """
        count = len(hidden_NE)
        query, key, value = self.qkv(hidden_NE).view(count, 3, self.heads, -1).unbind(1)
        query, key = apply_rotary_pos_emb_vision(query, key, *position_embeddings)
        is_small = self.heads * count**2 <= _LARGEST_TABLE
        attend = _by_mask if hidden_NE.dtype == torch.bfloat16 and query.is_cpu and is_small else _by_size
        mixed: Tensor = self.proj(attend(query, key, value, cu_seqlens).reshape(count, -1))
        return mixed


def _by_mask(query_NSK: Tensor, key_NSK: Tensor, value_NSK: Tensor, starts: Tensor) -> Tensor:
    pair_N = torch.repeat_interleave(torch.arange(len(starts) - 1), starts.diff().long())
    is_same_NN = pair_N[:, None] == pair_N[None, :]
    # three axes and a mask of one more, since the reference has them so: other shapes go to other kernels
    query_SNK, key_SNK, value_SNK = (states.transpose(0, 1) for states in (query_NSK, key_NSK, value_NSK))
    return F.scaled_dot_product_attention(query_SNK, key_SNK, value_SNK, is_same_NN[None]).transpose(0, 1)


def _by_size(query_NSK: Tensor, key_NSK: Tensor, value_NSK: Tensor, starts: Tensor) -> Tensor:
    mixed, start = [], 0
    lengths, counts = torch.unique_consecutive(starts.diff(), return_counts=True)
    for length, count in zip(lengths.tolist(), counts.tolist(), strict=True):
        part = slice(start, start + length * count)
        query_GSnK, key_GSnK, value_GSnK = (
            states[part].view(count, length, *states.shape[1:]).transpose(1, 2)
            for states in (query_NSK, key_NSK, value_NSK)
        )
        mixed.append(F.scaled_dot_product_attention(query_GSnK, key_GSnK, value_GSnK).transpose(1, 2).flatten(0, 1))
        start += length * count
    return torch.cat(mixed)
