"""VideoReward's LoRA: merged into float32 weights, or kept apart where merging would round it away.

Legend: I inputs, O outputs, R rank.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Lora:
    """The update of one linear layer: scale B A."""

    a_RI: Tensor
    b_OR: Tensor
    scale: float

    def merged_into(self, weight_OI: Tensor) -> Tensor:
        """W + scale B A in float32 (O, I)."""
        return weight_OI.float() + self.scale * (self.b_OR.float() @ self.a_RI.float())


class LoraLinear(nn.Module):
    """A linear layer with its update beside it, rounded step by step as peft does."""

    def __init__(self, base: nn.Linear, lora: Lora) -> None:
        super().__init__()
        self.base = base
        self.lora_a = nn.Parameter(lora.a_RI.to(base.weight), requires_grad=False)
        self.lora_b = nn.Parameter(lora.b_OR.to(base.weight), requires_grad=False)
        self.scale = lora.scale

    def forward(self, states: Tensor) -> Tensor:
        """W x + scale B (A x); (..., I) to (..., O)."""
        base: Tensor = self.base(states)
        return base + F.linear(F.linear(states, self.lora_a), self.lora_b) * self.scale
