"""VideoReward's input text as token ids, by the tokenizer file that lies beside the weights.

The file is read by the `tokenizers` library alone: transformers' loaders may swap parts of it, and so change tokens.
"""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch import Tensor

from policies.errors import InputError
from policies.rewards.videoreward.template import PAD_TOKEN, REWARD_TOKENS, VIDEO_TOKEN, chat_text


class RewardTokenizer:
    """Tokenizes prompts in one template. Its special tokens are looked up by name, never by number.

    Args:
        tokenizer: a Qwen2-VL tokenizer; with a template of special reward tokens it must have these.
        template_type: a key of `template.TEMPLATES`.
        source: named in errors.
    """

    def __init__(self, tokenizer: Tokenizer, *, template_type: str, source: str) -> None:
        self._tokenizer, self._source = tokenizer, source
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self.template_type = template_type
        self.video_token_id = self._id(VIDEO_TOKEN)
        self.pad_token_id = self._id(PAD_TOKEN)
        is_special = any(token in chat_text(template_type, "") for token in REWARD_TOKENS.values())
        self.reward_token_ids = tuple(self._id(token) for token in REWARD_TOKENS.values()) if is_special else ()

    @classmethod
    def load(cls, folder: Path, *, template_type: str) -> RewardTokenizer:
        """Reads `tokenizer.json`. Raises InputError when it is missing, damaged or lacks a token that is needed."""
        file = folder / "tokenizer.json"
        if not file.is_file():
            raise InputError(f"{file} is missing; copy the whole folder of the checkpoint, its tokenizer included")
        try:
            tokenizer = Tokenizer.from_file(str(file))
        except Exception as error:  # the library raises plain Exception
            raise InputError(f"{file} cannot be read as a tokenizer: {error}") from error
        return cls(tokenizer, template_type=template_type, source=str(file))

    def __len__(self) -> int:
        """Entries, added tokens included: rows that the embedding table needs."""
        return max(self._tokenizer.get_vocab(with_added_tokens=True).values()) + 1

    def encode(self, prompt: str, *, video_tokens: int) -> Tensor:
        """Token ids (L,) int64 of the whole input, `video_tokens` of them for the video.

        Raises:
            InputError: a prompt that holds a reward token or the video token.
        """
        ids: list[int] = self._tokenizer.encode(chat_text(self.template_type, prompt)).ids
        start = ids.index(self.video_token_id)
        return torch.tensor(ids[:start] + [self.video_token_id] * video_tokens + ids[start + 1 :])

    def _id(self, token: str) -> int:
        found: int | None = self._tokenizer.token_to_id(token)
        if found is None:
            raise InputError(
                f"{self._source} has no token {token}; take the tokenizer that was saved with this checkpoint"
            )
        return found
