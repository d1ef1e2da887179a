"""The tokenizer file that lies beside the weights.

It is read by the `tokenizers` library alone: transformers' loaders swap its normaliser for another one, which changes
the token at which scores are read.
"""

from __future__ import annotations

from pathlib import Path

from tokenizers import Tokenizer

from policies.errors import InputError


def load_tokenizer(file: Path) -> Tokenizer:
    """Reads a `tokenizer.json`. Raises InputError when it is damaged."""
    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises plain Exception
        raise InputError(f"{file} cannot be read as a tokenizer: {error}") from error
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def token_id(tokenizer: Tokenizer, token: str, *, source: str) -> int:
    """The number of a token. Raises InputError when there is none."""
    found: int | None = tokenizer.token_to_id(token)
    if found is None:
        raise InputError(f"{source} has no token {token}; take the tokenizer that was saved with this checkpoint")
    return found
