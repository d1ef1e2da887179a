"""What VideoScore's two networks have in common: the input they take, and what makes it of a video and its prompt.

Legend: B videos, F frames, H W pixels, C = 3 RGB, L tokens, D = 5 dimensions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FramesInput:
    """One video and its prompt as a network takes them."""

    ids_L: Tensor
    frames_FCHW: Tensor  # resized, whole numbers of 0..255, uint8 or float


class Reader(Protocol):
    """Makes the input of one network."""

    @property
    def settings(self) -> dict[str, Any]:
        """What inputs depend on beside the files of the checkpoint, for the revision."""
        ...

    def indices(self, total: int, fps: float) -> list[int]:
        """Frames that are looked at, of `total` with `fps` in a second. Raises InputError when there are too few."""
        ...

    def text(self, prompt: str, frames: int) -> str:
        """The text that becomes tokens. Raises InputError on a prompt that holds a token with a meaning of its own."""
        ...

    def read(self, sampled_FHWC: Tensor, prompt: str) -> FramesInput:
        """The input of sampled frames.

        Args:
            sampled_FHWC: uint8, or float whole numbers of 0..255, with respect to which the input is differentiable.
            prompt: used as it is.
        Raises:
            InputError: frames of a size, or a prompt, that cannot be used.
        """
        ...


class ScoreNetwork(Protocol):
    """Scores inputs of any lengths and sizes at once."""

    @property
    def device(self) -> torch.device:
        """Where the weights lie."""
        ...

    @property
    def vision_token_id(self) -> int:
        """The token in whose place the decoder reads frames."""
        ...

    @property
    def patch_size(self) -> int:
        """Side of a patch, pixels."""
        ...

    def __call__(self, inputs: Sequence[FramesInput]) -> Tensor:
        """Raw scores (B, D) float32, differentiable with respect to frames."""
        ...

    def pixels(self, frames_FCHW: Tensor) -> Tensor:
        """What the vision tower takes, float32, in the layout of the reference's processor."""
        ...

    def towers(self) -> Mapping[str, nn.Module]:
        """The parts before the decoder, by the reference values' name of their output."""
        ...

    def decoder(self) -> Any:
        """The decoder: `layers`, and a norm after them."""
        ...

    def read_positions(self, ids_L: Tensor) -> Tensor:
        """Positions of the tokens that scores are read at, int64: (1,), or (D,) when each dimension has its own."""
        ...
