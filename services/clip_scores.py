"""Scores of video files by one reward model, in this process."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from policies.config import RewardModelConfig
from policies.errors import InputError, NonFiniteError, OnlineVPOError
from policies.rewards.frames import read_clip
from policies.rewards.model import RewardModel, load_reward_model, normalised
from policies.shapes.clips import clip_path

_OPTIONS = {"reward.path": "--weights", "reward.base": "--base"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipScore:
    """What one clip got; `error` says why there is nothing."""

    clip: str
    prompt: str
    raw: Mapping[str, float] = field(default_factory=dict)
    normalised: Mapping[str, float] = field(default_factory=dict)
    reward: float = math.nan
    stages: Mapping[str, Any] | None = None
    error: OnlineVPOError | None = None


def load(config: RewardModelConfig, *, device: str) -> RewardModel:
    """The reward model; errors name options instead of a run's settings."""
    try:
        return load_reward_model(config, device=device)
    except InputError as error:
        message = str(error)
        for setting, option in _OPTIONS.items():
            message = re.sub(rf"\b{re.escape(setting)}\b", option, message)
        raise InputError(message) from error


def prompts_of(clips: Sequence[str], prompts: Sequence[str]) -> list[str]:
    """One prompt for each clip: the one there is, or one each."""
    if len(prompts) not in (1, len(clips)):
        raise InputError(f"{len(clips)} clips but {len(prompts)} prompts; give --prompt once, or once for each clip")
    return list(prompts) * (len(clips) if len(prompts) == 1 else 1)


def score_clips(
    model: RewardModel, clips: Sequence[str], prompts: Sequence[str], *, stages: bool
) -> Iterator[ClipScore]:
    """Scores clip by clip; one that cannot be scored says why and does not stop the others."""
    for clip, prompt in zip(clips, prompts, strict=True):
        try:
            yield _score(model, clip, prompt, stages=stages)
        except OnlineVPOError as error:
            yield ClipScore(clip=clip, prompt=prompt, error=error)


def _score(model: RewardModel, clip: str, prompt: str, *, stages: bool) -> ClipScore:
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
        stages=model.stages(video.frames_FHWC, prompt, video.fps) if stages else None,
    )
