"""The world's text side: a tokenizer of its few words and a frozen, seeded UMT5 of 11,120 parameters.

Legend: B prompts, L tokens, D embedding width.

A random encoder is enough here (training it jointly changed nothing that could be measured): each word has its own
direction, one attention layer mixes them, and the transformer's own text projection learns the rest.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from tokenizers import Tokenizer, normalizers, pre_tokenizers, processors
from tokenizers.models import WordLevel
from torch import Tensor
from transformers import PreTrainedTokenizerFast, UMT5Config, UMT5EncoderModel

from policies.shapes.prompts import WORDS

PAD, END, UNKNOWN = "<pad>", "</s>", "<unk>"
VOCABULARY: dict[str, int] = {word: index for index, word in enumerate((PAD, END, UNKNOWN, *WORDS))}
TEXT_WIDTH = 32
TEXT_LENGTH = 8
"""Tokens that prompts are embedded with: six words, the end, one pad."""


def new_tokenizer() -> PreTrainedTokenizerFast:
    """One token per word, lower case, closed by </s>; words from outside the world become <unk>."""
    tokenizer = Tokenizer(WordLevel(VOCABULARY, unk_token=UNKNOWN))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"$A {END}", special_tokens=[(END, VOCABULARY[END])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=PAD, eos_token=END, unk_token=UNKNOWN, model_max_length=512
    )


def new_text_encoder(seed: int) -> UMT5EncoderModel:
    """The frozen encoder of a seed; the global random state is left alone."""
    config = UMT5Config(
        vocab_size=24, d_model=TEXT_WIDTH, d_kv=16, num_heads=2, d_ff=64, num_layers=1, dropout_rate=0.0
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return UMT5EncoderModel(config).eval().requires_grad_(False)


@torch.no_grad()
def embed(tokenizer: PreTrainedTokenizerFast, encoder: UMT5EncoderModel, prompts: Sequence[str]) -> Tensor:
    """Prompt embeddings as WanPipeline makes them, (B, L, D): zero behind each prompt's end, L = TEXT_LENGTH."""
    tokens = tokenizer(
        list(prompts), padding="max_length", max_length=TEXT_LENGTH, truncation=True, return_tensors="pt"
    )
    hidden_BLD = encoder(tokens.input_ids, tokens.attention_mask).last_hidden_state
    embeds_BLD: Tensor = hidden_BLD * tokens.attention_mask[..., None]
    return embeds_BLD
