"""VideoReward's network: Qwen2-VL, read by a linear head after the final norm. For scoring and for training.

Legend: B videos, L tokens, E width of the decoder, D = 3 dimensions; N patches of all videos, P values of a patch.

Three things differ from Qwen2-VL in transformers, because the reference does so:

1. Positions are 0..L-1 on all three rotary axes, for video tokens too.
2. No language head; the reward head is read at the three reward tokens, or at the last token.
3. Rotary tables and the order of rounding in the vision tower: see `rotary` and `attention`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from transformers import Qwen2VLModel

from policies.errors import InputError
from policies.rewards.videoreward.attention import set_vision_attention
from policies.rewards.videoreward.pixels import Grid
from policies.rewards.videoreward.rotary import Rotary, set_rotary
from policies.rewards.videoreward.template import DIMENSIONS

RewardToken = Literal["special", "last"]
"""Where scores are read: at one token per dimension, or all of them at the last token."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class VideoInput:
    """One video and its prompt as the network takes them."""

    ids_L: Tensor
    patches_NP: Tensor
    grid: Grid


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class VideoBatch:
    """Several of them, padded on the right; patches follow one another."""

    ids_BL: Tensor
    is_token_BL: Tensor
    patches_NP: Tensor
    grids_B3: Tensor

    @classmethod
    def of(cls, inputs: Sequence[VideoInput], *, pad_token_id: int, device: torch.device | str) -> VideoBatch:
        """Pads and joins inputs of any lengths and sizes."""
        lengths_B = torch.tensor([len(video.ids_L) for video in inputs])
        ids_BL = pad_sequence([video.ids_L for video in inputs], batch_first=True, padding_value=pad_token_id)
        return cls(
            ids_BL=ids_BL.to(device),
            is_token_BL=(torch.arange(ids_BL.shape[1]) < lengths_B[:, None]).to(device),
            patches_NP=torch.cat([video.patches_NP for video in inputs]).to(device),
            grids_B3=torch.tensor([video.grid for video in inputs]).to(device),
        )


class VideoRewardNetwork(nn.Module):
    """The network. Linear layers of `model` may be wrapped (LoRA), and `model` may be checkpointed.

    Args:
        model: Qwen2-VL without a language head; changed in place.
        output_dim: rows of the head: 1, shared by all dimensions (the published form), or 3, one each.
        reward_token: see RewardToken; `last` needs output_dim 3.
        reward_token_ids: one per dimension when reward_token is special.
        rotary: see `set_rotary`, which is to be called again after a cast to another precision.
    Raises:
        InputError: an output_dim that does not go with the rest.
    """

    def __init__(
        self,
        model: Qwen2VLModel,
        *,
        output_dim: int,
        reward_token: RewardToken,
        reward_token_ids: Sequence[int] = (),
        rotary: Rotary = "published",
    ) -> None:
        super().__init__()
        if output_dim not in ((1, len(DIMENSIONS)) if reward_token == "special" else (len(DIMENSIONS),)):
            raise InputError(
                f"output_dim is {output_dim} with reward_token {reward_token}; it must be 3, or 1 with special"
            )
        if reward_token == "special" and len(reward_token_ids) != len(DIMENSIONS):
            raise InputError(
                "reward_token is special, but the template has no reward tokens; take a template that ends in _special"
            )
        set_vision_attention(model)
        set_rotary(model, rotary)
        self.model = model
        width, dtype = model.config.text_config.hidden_size, model.dtype
        self.rm_head = nn.Linear(width, output_dim, bias=False, dtype=dtype, device=model.device)
        self.reward_token = reward_token
        self.reward_token_ids = tuple(reward_token_ids)

    @property
    def device(self) -> torch.device:
        """Where the weights lie."""
        return self.rm_head.weight.device

    def forward(self, batch: VideoBatch) -> Tensor:
        """Raw scores (B, D) float32, differentiable with respect to weights and patches."""
        return self.head(self.hidden(batch), batch).float()

    def hidden(self, batch: VideoBatch) -> Tensor:
        """Hidden states (B, L, E) after the decoder's final norm."""
        batch_size, length = batch.ids_BL.shape
        positions_3BL = torch.arange(length, device=batch.ids_BL.device).expand(3, batch_size, length)
        output = self.model(
            input_ids=batch.ids_BL,
            # without padding there is nothing to mask but the future, which needs no L x L table
            attention_mask=None if bool(batch.is_token_BL.all()) else batch.is_token_BL.long(),
            position_ids=positions_3BL,
            pixel_values_videos=batch.patches_NP,
            video_grid_thw=batch.grids_B3,
            use_cache=False,
        )
        hidden_BLE: Tensor = output.last_hidden_state
        return hidden_BLE

    def head(self, hidden_BLE: Tensor, batch: VideoBatch) -> Tensor:
        """Scores (B, D) read from hidden states, in the head's precision.

        Raises:
            InputError: an input without exactly one of each reward token, in the order of the dimensions.
        """
        if self.reward_token == "last":
            last_B = batch.is_token_BL.sum(dim=1) - 1
            rows_BE = hidden_BLE[torch.arange(len(last_B), device=last_B.device), last_B]
            scores_BD: Tensor = self.rm_head(rows_BE)
            return scores_BD
        rows_BDE = self.at_reward_tokens(hidden_BLE, batch)
        scores_BDO = self.rm_head(rows_BDE)
        if scores_BDO.shape[-1] == 1:
            return scores_BDO.squeeze(-1)  # type: ignore[no-any-return]
        return scores_BDO.diagonal(dim1=1, dim2=2)  # type: ignore[no-any-return]

    def at_reward_tokens(self, states_BLE: Tensor, batch: VideoBatch) -> Tensor:
        """States (B, D, E) at the three reward tokens. Raises InputError as `head` does."""
        tokens_D = torch.tensor(self.reward_token_ids, device=batch.ids_BL.device)
        is_reward_BL = torch.isin(batch.ids_BL, tokens_D) & batch.is_token_BL
        found = batch.ids_BL[is_reward_BL]
        if not torch.equal(found, tokens_D.repeat(len(batch.ids_BL))):
            raise InputError("every input needs each reward token once, in the order VQ, MQ, TA; check the template")
        return states_BLE[is_reward_BL].view(len(batch.ids_BL), len(DIMENSIONS), -1)
