"""Prompt embeddings: each prompt is encoded once, then the text encoder can leave memory (UMT5-xxl takes 11 GB)."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from typing import TypeAlias

import torch
from torch import Tensor

from policies.errors import InputError

EncodeText: TypeAlias = Callable[[str, int], Tensor]  # (text, max_sequence_length) -> (L, D) on any device


class PromptEmbeddings:
    """A cache of prompt embeddings in front of a text encoder that is loaded when an unseen prompt comes.

    Prompts are encoded one by one: in a batch, an embedding would depend on its neighbours in the last bits, and so
    on how a run splits its prompts.
    """

    def __init__(self, load: Callable[[], EncodeText]) -> None:
        """`load` brings the text encoder into memory; dropping what it returns must free it."""
        self._load = load
        self._encode: EncodeText | None = None
        self._cache: dict[tuple[str, int], tuple[Tensor, int]] = {}

    @property
    def is_loaded(self) -> bool:
        """True while the text encoder is in memory."""
        return self._encode is not None

    def embed(self, texts: Sequence[str], *, max_sequence_length: int) -> list[Tensor]:
        """One embedding (L, D) per text, on CPU.

        Raises:
            InputError: the text encoder cannot be loaded, or gives numbers that are not finite.
        """
        return [self._embed_one(text, max_sequence_length) for text in texts]

    def _embed_one(self, text: str, max_sequence_length: int) -> Tensor:
        key = (text, max_sequence_length)
        if key not in self._cache:
            if self._encode is None:
                self._encode = self._load()
            with torch.no_grad():
                embedding_LD = self._encode(text, max_sequence_length).cpu()
            if not torch.isfinite(embedding_LD).all():
                raise InputError(f"the text encoder gives numbers that are not finite for '{text}'; check its weights")
            self._cache[key] = _without_padding(embedding_LD)
        rows_LD, length = self._cache[key]
        embedding_LD = rows_LD.new_zeros(length, rows_LD.shape[1])
        embedding_LD[: len(rows_LD)] = rows_LD
        return embedding_LD

    def release(self) -> None:
        """Frees the text encoder; embeddings stay. A later unseen text loads it again."""
        if self._encode is None:
            return
        self._encode = None
        gc.collect()  # transformers' modules hold reference cycles
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def _without_padding(embedding_LD: Tensor) -> tuple[Tensor, int]:
    """The rows up to the last that is not zero, and L: Wan pads to 512 rows of zeros, 4 MB a prompt at full size."""
    used = embedding_LD.ne(0).any(dim=1).nonzero()
    last = int(used.max()) + 1 if len(used) else 0
    return embedding_LD[:last].clone(), len(embedding_LD)
