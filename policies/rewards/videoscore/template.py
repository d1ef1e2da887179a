"""The text that VideoScore reads. Scores depend on every byte: `regression.txt` is the published query.

On Idefics2 the space after the last frame counts too: the scores are read at it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from policies.errors import InputError
from policies.rewards.videoreward.template import VIDEO_TOKEN

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
            raise InputError(
                f"the prompt {prompt!r} holds {token}, which marks a place in the input; remove it",
                public=f"The prompt must hold none of the tokens that mark places in the input: {', '.join(reserved)}.",
            )
    return _QUERY.format(text_prompt=prompt)


def frames_text(prompt: str, frames: int) -> str:
    """The query and one image token, with a space after it, per frame. Raises InputError as `query_text` does."""
    return query_text(prompt, reserved=(IMAGE_TOKEN, FRAME_BORDER_TOKEN)) + f"{IMAGE_TOKEN} " * frames


_CHAT = (
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
    "<|im_start|>user\n{content}<|im_end|>\n"
    "<|im_start|>assistant\n"
)
_VIDEO = f"<|vision_start|>{VIDEO_TOKEN}<|vision_end|>"


def video_text(prompt: str) -> str:
    """The query in Qwen2-VL's chat form, the video before it, up to where the answer would start.

    Raises:
        InputError: as `query_text`.
    """
    return _CHAT.format(content=_VIDEO + query_text(prompt, reserved=(VIDEO_TOKEN,)))


def labelled_text(prompt: str, labels: Sequence[str]) -> str:
    """The query in Qwen2-VL's chat form with the video after it, and an answer that names a token per dimension.

    So such checkpoints are trained; nobody published a script that uses one.

    Raises:
        InputError: as `query_text`.
    """
    query = query_text(prompt, reserved=(VIDEO_TOKEN, *labels))
    answer = "".join(f"The score for {name} is {label}. " for name, label in zip(DIMENSIONS, labels, strict=True))
    return _CHAT.format(content=query + _VIDEO) + f"{answer}<|im_end|>\n"
