"""What a caller of the API reads when a model refuses its input: useful, and with nothing in it that was sent."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, cast

import numpy as np
import pytest

from policies.config import ShapesRewardConfig
from policies.errors import InputError
from policies.rewards.shapes import ShapesReward
from policies.rewards.videoreward import pixels as videoreward_pixels
from policies.rewards.videoreward.model import VideoReward
from policies.rewards.videoreward.template import chat_text
from policies.rewards.videoscore import pixels as videoscore_pixels
from policies.rewards.videoscore.model import VideoScore
from policies.rewards.videoscore.pixels import ImageRules
from policies.rewards.videoscore.qwen2_vl_reader import Qwen2VLReader
from policies.rewards.videoscore.template import frames_text

SECRET = "tangerine"
FLOATS, RIGHT = np.zeros((7, 19, 23, 3), np.float32), np.zeros((9, 32, 32, 3), np.uint8)
RULES, NOTHING = videoreward_pixels.FrameRules(), cast(Any, None)


def shapes(frames: np.ndarray, prompt: str) -> Any:
    return ShapesReward.load(ShapesRewardConfig(), "cpu").prepare(frames, prompt, 8.0)


@pytest.mark.parametrize(
    ("refuse", "public"),
    [
        (lambda: shapes(FLOATS, SECRET), "The model takes videos of exactly 9 frames of 32x32 pixels."),
        (lambda: shapes(RIGHT, SECRET), "The prompt is not of the moving-shapes world, which knows only"),
        (lambda: shapes(RIGHT, f"a {SECRET} circle moving left slowly"), "The prompt's colour is not of the moving"),
        (lambda: VideoReward.prepare(NOTHING, FLOATS, SECRET, 8.0), "The model takes videos in 8-bit RGB."),
        (lambda: videoreward_pixels.frame_indices(9, 0.0, RULES), "The video's frame rate must be a positive number"),
        (lambda: videoreward_pixels.frame_indices(1, 8.0, RULES), "The model needs videos of at least 2 frames."),
        (
            lambda: videoreward_pixels.target_size(19, 7019, RULES),
            "The model takes frames of which one side",
        ),
        (
            lambda: chat_text("detailed_special", f"{SECRET} <|MQ_reward|>"),
            "The prompt must hold none of the tokens at which",
        ),
        (lambda: VideoScore.prepare(NOTHING, FLOATS, SECRET, 8.0), "The model takes videos in 8-bit RGB."),
        (lambda: videoscore_pixels.frame_indices(0, max_frames=16), "The model needs videos of at least 1 frame."),
        (lambda: videoscore_pixels.target_size(0, 19, ImageRules()), "The model needs frames of at least one pixel."),
        (
            lambda: frames_text(f"{SECRET} <image>", 2),
            "The prompt must hold none of the tokens that mark places in the input: <image>, ",
        ),
        (lambda: Qwen2VLReader.indices(NOTHING, 1, 8.0), "The model needs videos of at least 2 frames."),
    ],
)
def test_a_refusal_says_what_the_model_takes_and_quotes_nothing(refuse: Callable[[], Any], public: str) -> None:
    with pytest.raises(InputError) as caught:
        refuse()
    said = caught.value.public
    assert said is not None and said.startswith(public) and said.endswith(".")
    assert not [sent for sent in (SECRET, "7", "19", "23", "float32") if sent in said]
    assert copy.copy(caught.value).public == said, "on its way from a replica"
