"""The text that VideoScore reads. Scores depend on every byte: `regression.txt` is the published query.

The space after the last frame counts too: the scores are read at it.
"""

from __future__ import annotations

from pathlib import Path

from policies.errors import InputError

DIMENSIONS = (
    "visual quality",
    "temporal consistency",
    "dynamic degree",
    "text-to-video alignment",
    "factual consistency",
)
"""In the order of the head's outputs."""

IMAGE_TOKEN = "<image>"
FRAME_BORDER_TOKEN = "<fake_token_around_image>"

_QUERY = (Path(__file__).parent / "regression.txt").read_bytes().decode()


def query_text(prompt: str, *, reserved: tuple[str, ...]) -> str:
    """The query with the prompt written in as it is, outer spaces and braces included.

    Raises:
        InputError: the prompt holds one of the `reserved` tokens, where the frames or the scores go.
    """
    for token in reserved:
        if token in prompt:
            raise InputError(f"the prompt {prompt!r} holds {token}, which marks a place in the input; remove it")
    return _QUERY.format(text_prompt=prompt)


def frames_text(prompt: str, frames: int) -> str:
    """The query and one image token, with a space after it, per frame. Raises InputError as `query_text` does."""
    return query_text(prompt, reserved=(IMAGE_TOKEN, FRAME_BORDER_TOKEN)) + f"{IMAGE_TOKEN} " * frames
