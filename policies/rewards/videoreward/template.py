"""The text that VideoReward reads: evaluation criteria, prompt and reward tokens, in Qwen2-VL's chat form.

Scores depend on every byte. `detailed_special.txt` is the published template, with the spaces at its line ends.
"""

from __future__ import annotations

from pathlib import Path

from policies.errors import InputError

DIMENSIONS = ("VQ", "MQ", "TA")
"""Visual quality, motion quality, text alignment: the order of scores, and of reward tokens in the text."""

REWARD_TOKENS = {name: f"<|{name}_reward|>" for name in DIMENSIONS}
"""The token at which each dimension's score is read when `reward_token` is `special`."""

VIDEO_TOKEN = "<|video_pad|>"
"""Stands once in `chat_text` for the video; becomes one token per 2x2 patches of two frames."""

PAD_TOKEN = "<|endoftext|>"

_SHORT_SPECIAL = (
    "Score this video.\n"
    f"Visual quality: {REWARD_TOKENS['VQ']}\n"
    f"Motion quality: {REWARD_TOKENS['MQ']}\n"
    "Prompt: {text_prompt}\n"
    f"Text alignment: {REWARD_TOKENS['TA']}\n"
)
_SHORT = "Prompt: {text_prompt}\nScore this video's visual quality, motion quality and text alignment."

TEMPLATES = {
    "detailed_special": (Path(__file__).parent / "detailed_special.txt").read_bytes().decode(),
    "short_special": _SHORT_SPECIAL,
    "short": _SHORT,
}
"""By `prompt_template_type`. detailed_special is the published one; short_special and short are ours, for training
small models with special reward tokens and with the last token."""

_CHAT = (
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
    f"<|im_start|>user\n<|vision_start|>{VIDEO_TOKEN}<|vision_end|>{{text}}<|im_end|>\n"
    "<|im_start|>assistant\n"
)


def template_text(kind: str, prompt: str) -> str:
    """A template with the prompt written in as it is, outer spaces and braces included.

    Raises:
        InputError: an unknown template, or a prompt that holds a token which marks where something else is read.
    """
    if kind not in TEMPLATES:
        raise InputError(f"prompt_template_type is {kind!r}; the known ones are: {', '.join(TEMPLATES)}")
    for token in (*REWARD_TOKENS.values(), VIDEO_TOKEN):
        if token in prompt:
            raise InputError(
                f"the prompt {prompt!r} holds {token}, at which VideoReward reads its input; remove it",
                public="The prompt must hold none of the tokens at which the model reads its input: "
                f"{', '.join((*REWARD_TOKENS.values(), VIDEO_TOKEN))}.",
            )
    return TEMPLATES[kind].format(text_prompt=prompt)


def chat_text(kind: str, prompt: str) -> str:
    """The whole input text: Qwen2-VL's default system message, the video (one VIDEO_TOKEN), the template, the answer's
    start. Raises InputError as `template_text` does."""
    return _CHAT.format(text=template_text(kind, prompt))
