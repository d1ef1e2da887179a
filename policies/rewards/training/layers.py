"""Layers of a network whose other weights stay as they are: LoRA beside a linear layer, rows beside an embedding.

Legend: I inputs, O outputs, R rank, V tokens, K trained tokens, E width. Trained weights are float32; frozen ones keep
their precision.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from policies.seeds import seed_for


class TrainedLora(nn.Module):
    """A frozen linear layer with a trained update beside it: W x + (alpha / R) B A dropout(x).

    A is drawn from the seed by the layer's name as peft does (uniform, bound 1 / sqrt(I)), B is zero.
    """

    def __init__(self, base: nn.Linear, *, rank: int, alpha: float, dropout: float, seed: int, name: str) -> None:
        super().__init__()
        self.base = base.requires_grad_(False)
        bound = 1 / math.sqrt(base.in_features)
        rng = torch.Generator().manual_seed(seed_for("lora", seed, name))
        a_RI = torch.empty(rank, base.in_features).uniform_(-bound, bound, generator=rng)
        self.lora_a = nn.Parameter(a_RI.to(base.weight.device))
        self.lora_b = nn.Parameter(torch.zeros(base.out_features, rank, device=base.weight.device))
        self.scale, self.dropout = alpha / rank, dropout

    def forward(self, states: Tensor) -> Tensor:
        """(..., I) to (..., O)."""
        base: Tensor = self.base(states)
        seen = F.dropout(states, self.dropout, self.training)
        update = F.linear(F.linear(seen.to(self.lora_a.dtype), self.lora_a), self.lora_b)
        return base + (update * self.scale).to(base.dtype)


class TrainedRows(nn.Module):
    """A frozen embedding (V, E) of which the rows of some tokens are trained."""

    def __init__(self, base: nn.Embedding, token_ids: Sequence[int]) -> None:
        super().__init__()
        self.base = base.requires_grad_(False)
        self.register_buffer("token_ids_K", torch.tensor(token_ids, device=base.weight.device), persistent=False)
        self.rows_KE = nn.Parameter(base.weight.detach()[list(token_ids)].float().clone())

    def forward(self, ids: Tensor) -> Tensor:
        """Embeddings (..., E) of token ids, in the frozen rows' precision."""
        embedded: Tensor = self.base(ids)
        is_token_K = ids[..., None] == self.get_buffer("token_ids_K")
        own = self.rows_KE.to(embedded.dtype)[is_token_K.long().argmax(-1)]
        return torch.where(is_token_K.any(-1, keepdim=True), own, embedded)

    def whole(self) -> Tensor:
        """The embedding's weight (V, E) with the trained rows in it."""
        weight_VE = self.base.weight.detach().clone()
        weight_VE[self.get_buffer("token_ids_K")] = self.rows_KE.detach().to(weight_VE.dtype)
        return weight_VE
