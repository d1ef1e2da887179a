"""VideoScore's input text as token ids, by the tokenizer file that lies beside the weights.

The file is read by the `tokenizers` library alone: transformers' loaders swap its normaliser for another one, which
changes the token at which scores are read.
"""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch import Tensor

from policies.errors import InputError
from policies.rewards.videoscore.template import FRAME_BORDER_TOKEN, IMAGE_TOKEN, frames_text


def load_tokenizer(folder: Path) -> Tokenizer:
    """Reads `tokenizer.json`. Raises InputError when it is missing or damaged."""
    file = folder / "tokenizer.json"
    if not file.is_file():
        raise InputError(f"{file} is missing; copy the whole folder of the checkpoint, its tokenizer included")
    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises plain Exception
        raise InputError(f"{file} cannot be read as a tokenizer: {error}") from error
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def token_id(tokenizer: Tokenizer, token: str, *, source: Path) -> int:
    """The number of a token. Raises InputError when there is none."""
    found: int | None = tokenizer.token_to_id(token)
    if found is None:
        raise InputError(f"{source} has no token {token}; take the tokenizer that was saved with this checkpoint")
    return found


class FrameTokenizer:
    """Tokenizes a prompt and as many frames as there are, for Idefics2.

    Args:
        folder: of the checkpoint.
        tokens_per_frame: image tokens that a frame becomes.
    Raises:
        InputError: no tokenizer, or one without the tokens that stand for a frame.
    """

    def __init__(self, folder: Path, *, tokens_per_frame: int) -> None:
        self._tokenizer = load_tokenizer(folder)
        source = folder / "tokenizer.json"
        token_id(self._tokenizer, FRAME_BORDER_TOKEN, source=source)
        self.image_token_id = token_id(self._tokenizer, IMAGE_TOKEN, source=source)
        self._frame = FRAME_BORDER_TOKEN + IMAGE_TOKEN * tokens_per_frame + FRAME_BORDER_TOKEN

    def encode(self, prompt: str, frames: int) -> Tensor:
        """Token ids (L,) int64. Raises InputError on a prompt that holds an image token."""
        text = frames_text(prompt, frames).replace(IMAGE_TOKEN, self._frame)
        return torch.tensor(self._tokenizer.encode(text).ids)
