"""From a video and its prompt to the input of VideoScore on Idefics2.

Legend: F frames, H W pixels, C = 3 RGB, L tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor

from policies.errors import InputError
from policies.model_folder import read_json
from policies.rewards.published import PublishedFolder
from policies.rewards.videoscore.inputs import FramesInput
from policies.rewards.videoscore.pil_resize import Filter
from policies.rewards.videoscore.pixels import FrameRule, ImageRules, frame_indices, resized
from policies.rewards.videoscore.template import FRAME_BORDER_TOKEN, IMAGE_TOKEN, frames_text
from policies.rewards.videoscore.tokens import token_id

_PILLOW_FILTERS: Mapping[int, Filter] = {2: "bilinear", 3: "bicubic"}
"""By Pillow's number, as preprocessor_config.json has it."""

_TOKENS_PER_FRAME = 64  # where processor_config.json does not say, as in the processors of its time


class Idefics2Reader:
    """A `Reader`: sampled frames one by one, each a block of image tokens between two border tokens.

    Args:
        tokenizer: of the checkpoint.
        source: where it came from, for errors.
        rules: of the image processor.
        tokens_per_frame: image tokens that a frame becomes.
        max_frames: see `frame_indices`.
        rule: likewise.
    Raises:
        InputError: a tokenizer without the tokens that stand for a frame.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        *,
        source: str,
        rules: ImageRules,
        tokens_per_frame: int,
        max_frames: int,
        rule: FrameRule = "script",
    ) -> None:
        token_id(tokenizer, FRAME_BORDER_TOKEN, source=source)
        self.image_token_id = token_id(tokenizer, IMAGE_TOKEN, source=source)
        self.rules, self.tokens_per_frame = rules, tokens_per_frame
        self._tokenizer, self._max_frames, self._rule = tokenizer, max_frames, rule

    @property
    def settings(self) -> dict[str, Any]:
        """See Reader."""
        return {"max_frames": self._max_frames, "frame_rule": self._rule}

    def indices(self, total: int, fps: float) -> list[int]:
        """See Reader; the rate does not matter."""
        return frame_indices(total, max_frames=self._max_frames, rule=self._rule)

    def text(self, prompt: str, frames: int) -> str:
        """See Reader; one image token per frame."""
        return frames_text(prompt, frames)

    def read(self, sampled_FHWC: Tensor, prompt: str) -> FramesInput:
        """See Reader."""
        frame = FRAME_BORDER_TOKEN + IMAGE_TOKEN * self.tokens_per_frame + FRAME_BORDER_TOKEN
        text = self.text(prompt, len(sampled_FHWC)).replace(IMAGE_TOKEN, frame)
        return FramesInput(
            ids_L=torch.tensor(self._tokenizer.encode(text).ids), frames_FCHW=resized(sampled_FHWC, self.rules)
        )


def image_rules(folder: PublishedFolder) -> ImageRules:
    """What preprocessor_config.json says.

    Raises:
        InputError: it is missing, or asks for steps that VideoScore does not have.
    """
    file = folder.file("preprocessor_config.json")
    content = read_json(file)
    steps = {"do_resize": True, "do_rescale": True, "do_normalize": True, "do_image_splitting": False}
    wrong = [name for name, wanted in steps.items() if content.get(name, wanted) is not wanted]
    if wrong or content.get("resample", 2) not in _PILLOW_FILTERS:
        raise InputError(
            f"{file}: {', '.join(wrong) or 'resample'} is not as VideoScore was published; "
            f"{folder.how_to_fetch(file.name)}"
        )
    try:
        return ImageRules(
            shortest_edge=int(content["size"]["shortest_edge"]),
            longest_edge=int(content["size"]["longest_edge"]),
            kind=_PILLOW_FILTERS[content.get("resample", 2)],
            rescale_factor=float(content.get("rescale_factor", 1 / 255)),
            mean=_three(content["image_mean"]),
            std=_three(content["image_std"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{file} cannot be read as an image processor's config: {error!r}") from error


def tokens_per_frame(folder: PublishedFolder) -> int:
    """What processor_config.json says. Raises InputError when it says something that is no number."""
    file = folder.path / "processor_config.json"
    count = (read_json(file) if file.is_file() else {}).get("image_seq_len", _TOKENS_PER_FRAME)
    if not isinstance(count, int) or count < 1:
        raise InputError(f"{file}: image_seq_len is {count!r}; {folder.how_to_fetch(file.name)}")
    return count


def _three(values: Any) -> tuple[float, float, float]:
    red, green, blue = (float(value) for value in values)
    return red, green, blue
