"""Scores of video files by one reward model, in this process."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from typing import Any

from policies.config import RewardModelConfig
from policies.errors import InputError, NonFiniteError, OnlineVPOError
from policies.rewards.frames import read_clip
from policies.rewards.model import RewardModel, load_reward_model, normalised
from policies.shapes.clips import clip_path
from services.scored_clip import ClipScore

_OPTIONS = {"reward.path": "--weights", "reward.base": "--base"}


def load(config: RewardModelConfig, *, device: str) -> RewardModel:
    """The reward model; errors name options instead of a run's settings."""
    try:
        return load_reward_model(config, device=device)
    except InputError as error:
        message = str(error)
        for setting, option in _OPTIONS.items():
            message = re.sub(rf"\b{re.escape(setting)}\b", option, message)
        raise InputError(message) from error


def score_clips(
    model: RewardModel, clips: Sequence[str], prompts: Sequence[str], *, dtype: str, stages: bool
) -> Iterator[ClipScore]:
    """Scores clip by clip; one that cannot be scored says why and does not stop the others.

    Args:
        dtype: the model's precision, to be told.
    """
    facts = {"name": model.name, "revision": model.revision, "files": dict(model.files), "dtype": dtype}
    for clip, prompt in zip(clips, prompts, strict=True):
        try:
            yield _score(model, clip, prompt, facts=facts, stages=stages)
        except OnlineVPOError as error:
            yield ClipScore(clip=clip, prompt=prompt, error=error)


def _score(model: RewardModel, clip: str, prompt: str, *, facts: dict[str, Any], stages: bool) -> ClipScore:
    video = read_clip(clip_path(clip))
    try:
        scores_D = model.score([model.prepare(video.frames_FHWC, prompt, video.fps)])[0].tolist()
    except InputError as error:
        raise InputError(f"{clip}: {error}") from error
    raw = dict(zip(model.dimensions, scores_D, strict=True))
    if not all(map(math.isfinite, raw.values())):
        raise NonFiniteError(f"{clip}: the reward model {model.name} gave scores that are not finite: {raw}")
    scale = normalised(model, raw)
    return ClipScore(
        clip=clip,
        prompt=prompt,
        raw=raw,
        normalised=scale,
        reward=model.overall(scale),
        model=facts,
        stages=model.stages(video.frames_FHWC, prompt, video.fps) if stages else None,
    )
