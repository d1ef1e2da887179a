"""Scores every video of a data set once: threads read, hash and decode files while the model scores.

Videos are scored in the given order and in batches of a given number, so the numbers depend neither on timing nor on
how often an evaluation was stopped. A video that cannot be judged is set aside with the reason and stops nothing.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from policies.errors import InputError
from policies.rewards.ahead import made_ahead
from policies.rewards.evaluation.layouts import PromptedVideo
from policies.rewards.evaluation.score_file import ScoreFile, VideoScores
from policies.rewards.frames import read_clip
from policies.rewards.model import Prepared, RewardModel, normalised


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoringConfig:
    """How videos are read and scored; changes no score beyond rounding."""

    threads: int = 2  # that read and decode
    videos_per_batch: int = 8

    def __post_init__(self) -> None:
        if self.threads < 1 or self.videos_per_batch < 1:
            raise InputError(f"{self.threads} threads and {self.videos_per_batch} videos per batch; give 1 or more")

    @property
    def ahead(self) -> int:
        """Videos that may wait decoded, or be decoded, while a batch is scored."""
        return self.videos_per_batch + self.threads


@dataclass(slots=True, kw_only=True)
class ScoredVideos:
    """Scores of all videos that have them, and why the others have none."""

    scores: dict[PromptedVideo, VideoScores] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)  # reason by path; of several the first
    failed: int = 0  # videos, a path with two prompts counts twice
    reused: int = 0  # found in the score file

    @property
    def done(self) -> int:
        return len(self.scores) + self.failed

    def fail(self, video: PromptedVideo, reason: str) -> None:
        self.failed += 1
        self.failures.setdefault(video.path, reason)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Ready:
    """What a thread made of a video: scores that were there, an input for the model, or a reason against it."""

    video: PromptedVideo
    key: str = ""
    scores: VideoScores | None = None
    prepared: Prepared = None
    problem: str = ""


def score_videos(
    videos: Sequence[PromptedVideo],
    folder: Path,
    model: RewardModel,
    file: ScoreFile,
    *,
    config: ScoringConfig,
    on_progress: Callable[[ScoredVideos], None] = lambda scored: None,
) -> ScoredVideos:
    """Scores videos that the file has no scores of yet, and appends them to it batch by batch.

    Args:
        videos: each once.
        folder: what their paths are relative to.
        on_progress: called whenever a video is done.
    """
    scored = ScoredVideos()
    waiting: list[_Ready] = []

    def score_waiting() -> None:
        results = list(zip(waiting, _score(model, waiting), strict=True))
        file.append([(ready.key, ready.video, found) for ready, found in results if isinstance(found, VideoScores)])
        for ready, found in results:
            if isinstance(found, VideoScores):
                scored.scores[ready.video] = found
            else:
                scored.fail(ready.video, found)
            on_progress(scored)
        waiting.clear()

    for ready in made_ahead(
        lambda video: _make_ready(video, folder, model, file), videos, threads=config.threads, ahead=config.ahead
    ):
        if ready.problem:
            scored.fail(ready.video, ready.problem)
            on_progress(scored)
        elif ready.scores is not None:
            scored.scores[ready.video] = ready.scores
            scored.reused += 1
            on_progress(scored)
        else:
            waiting.append(ready)
        if len(waiting) == config.videos_per_batch:
            score_waiting()
    if waiting:
        score_waiting()
    return scored


def _make_ready(video: PromptedVideo, folder: Path, model: RewardModel, file: ScoreFile) -> _Ready:
    try:
        path = _inside(folder, video.path)
        key = file.key(_sha256(path), video.prompt)
        scores = file.get(key)
        if scores is not None:
            return _Ready(video=video, key=key, scores=scores)
        clip = read_clip(path)
        return _Ready(video=video, key=key, prepared=model.prepare(clip.frames_FHWC, video.prompt, clip.fps))
    except InputError as error:
        return _Ready(video=video, problem=str(error))


def _inside(folder: Path, name: str) -> Path:
    """The file of that name in a folder; data of others must not name files elsewhere."""
    path = Path(os.path.normpath(folder / name))
    if not path.is_relative_to(os.path.normpath(folder)):
        raise InputError(f"{name} is not inside {folder}; name the folder that all videos are in")
    return path


def _sha256(path: Path) -> str:
    try:
        if not path.is_file():
            raise InputError(f"{path}: no such file")
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except (OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} cannot be read: {error}") from error


def _score(model: RewardModel, waiting: Sequence[_Ready]) -> list[VideoScores | str]:
    """Scores, or the reason why there are none; when the model refuses a batch, its videos are tried alone."""
    try:
        rows = model.score([ready.prepared for ready in waiting]).tolist()
    except InputError as error:
        if len(waiting) == 1:
            return [str(error)]
        return [result for ready in waiting for result in _score(model, [ready])]
    return [_named(model, row) for row in rows]


def _named(model: RewardModel, row: Sequence[float]) -> VideoScores | str:
    raw = dict(zip(model.dimensions, row, strict=True))
    if not all(map(math.isfinite, row)):
        return f"its scores are not finite numbers: {raw}"
    scale = normalised(model, raw)
    return VideoScores(raw=raw, normalised=scale, overall=model.overall(scale))
