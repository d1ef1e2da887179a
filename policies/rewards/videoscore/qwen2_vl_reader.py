"""From a video and its prompt to the input of VideoScore on Qwen2-VL.

Legend: F frames, H W pixels, C = 3 RGB, L tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor

from policies.errors import InputError
from policies.model_folder import read_json
from policies.rewards.published import PublishedFolder
from policies.rewards.resize import resize_bicubic
from policies.rewards.videoreward.pixels import FrameRules, frame_indices, target_size
from policies.rewards.videoreward.template import VIDEO_TOKEN
from policies.rewards.videoscore.inputs import FramesInput
from policies.rewards.videoscore.pil_resize import resize_like_pillow
from policies.rewards.videoscore.template import labelled_text, video_text
from policies.rewards.videoscore.tokens import token_id

FPS = 8.0
"""Frames per second that the published script looks at."""

_PIXELS_PER_TOKEN = 28 * 28  # of the published patches; the limits below are given in it
_MOST_PER_FRAME, _MOST_PER_VIDEO = 768 * _PIXELS_PER_TOKEN, 24576 * _PIXELS_PER_TOKEN


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessorLimits:
    """Area of a frame, in pixels, in the checkpoint's image processor, which resizes a second time."""

    min_pixels: int = 56 * 56
    max_pixels: int = 28 * 28 * 1280


class Qwen2VLReader:
    """A `Reader`: frames at 8 per second, two in a token, inside Qwen2-VL's chat form.

    Args:
        tokenizer: of the checkpoint.
        source: where it came from, for errors.
        rules: patches of the image processor.
        limits: likewise.
        max_frames: at most so many; None: 768.
        label_token_ids: tokens that dimensions are read at; empty: the text ends where the answer starts.
    Raises:
        InputError: a tokenizer without a token that is needed.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        *,
        source: str,
        rules: FrameRules,
        limits: ProcessorLimits,
        max_frames: int | None = None,
        label_token_ids: Sequence[int] = (),
    ) -> None:
        self.video_token_id = token_id(tokenizer, VIDEO_TOKEN, source=source)
        labels = [str(tokenizer.id_to_token(label) or "") for label in label_token_ids]
        if not all(labels):
            raise InputError(
                f"{source} lacks tokens of label_special_token_ids {list(label_token_ids)} in config.json; "
                "take the tokenizer that was saved with this checkpoint"
            )
        self._tokenizer, self._labels = tokenizer, labels
        self._rules, self._limits, self._max_frames = replace(rules, fps=FPS), limits, max_frames

    @property
    def settings(self) -> dict[str, Any]:
        """See Reader."""
        return {"max_frames": self._max_frames}

    def indices(self, total: int, fps: float) -> list[int]:
        """See Reader."""
        if total < 2:
            raise InputError(
                f"the clip has {total} frame{'s' * (total != 1)}; VideoScore-Qwen2-VL needs at least 2",
                public="The model needs videos of at least 2 frames.",
            )
        indices = frame_indices(total, fps, self._rules)
        if self._max_frames is not None and len(indices) > self._max_frames:
            count = max(2, self._max_frames // 2 * 2)
            indices = frame_indices(total, fps, replace(self._rules, num_frames=count))
        return indices

    def text(self, prompt: str, frames: int) -> str:
        """See Reader; one video token."""
        return labelled_text(prompt, self._labels) if self._labels else video_text(prompt)

    def read(self, sampled_FHWC: Tensor, prompt: str) -> FramesInput:
        """See Reader."""
        frames_FCHW = self._resized(sampled_FHWC)
        ids: list[int] = self._tokenizer.encode(self.text(prompt, len(sampled_FHWC))).ids
        start = ids.index(self.video_token_id)
        factor, pair = self._rules.factor, self._rules.temporal_patch_size
        frames, _, height, width = frames_FCHW.shape
        tokens = -(-frames // pair) * (height // factor) * (width // factor)
        ids[start : start + 1] = [self.video_token_id] * tokens
        return FramesInput(ids_L=torch.tensor(ids), frames_FCHW=frames_FCHW)

    def _resized(self, sampled_FHWC: Tensor) -> Tensor:
        first = replace(self._rules, max_pixels=most_pixels(len(sampled_FHWC), self._rules.min_pixels))
        size = target_size(sampled_FHWC.shape[1], sampled_FHWC.shape[2], first)
        frames_FCHW = resize_bicubic(sampled_FHWC.permute(0, 3, 1, 2), *size)
        if not sampled_FHWC.is_floating_point():
            frames_FCHW = frames_FCHW.byte()
        second = replace(self._rules, min_pixels=self._limits.min_pixels, max_pixels=self._limits.max_pixels)
        return resize_like_pillow(frames_FCHW, *target_size(*size, second), kind="bicubic")


def most_pixels(frames: int, min_pixels: int) -> float:
    """Area of a frame at most, so that a whole video has no more than about 24576 tokens' worth of pixels."""
    return max(min(_MOST_PER_FRAME, _MOST_PER_VIDEO / frames * 2), int(min_pixels * 1.05))


def processor_rules(folder: PublishedFolder) -> tuple[FrameRules, ProcessorLimits]:
    """What preprocessor_config.json says. Raises InputError when it is missing or is another processor's."""
    file = folder.file("preprocessor_config.json")
    content = read_json(file)
    size = content.get("size") or {}
    default = ProcessorLimits()
    try:
        rules = FrameRules(
            patch_size=int(content.get("patch_size", 14)),
            merge_size=int(content.get("merge_size", 2)),
            temporal_patch_size=int(content.get("temporal_patch_size", 2)),
        )
        limits = ProcessorLimits(
            min_pixels=int(
                content.get("min_pixels") or size.get("min_pixels") or size.get("shortest_edge") or default.min_pixels
            ),
            max_pixels=int(
                content.get("max_pixels") or size.get("max_pixels") or size.get("longest_edge") or default.max_pixels
            ),
        )
    except (TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{file} cannot be read as an image processor's config: {error!r}") from error
    return rules, limits
