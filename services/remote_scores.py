"""Scores of video files by a service."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from policies.errors import ClusterError, InputError, OnlineVPOError
from policies.shapes.clips import clip_path
from services.client import ApiError, Client, RateLimited, Score, ScoringError, TimedOut, Unavailable, Unreachable
from services.scored_clip import ClipScore

_FIRST_ANSWER_S, _TIMEOUT_S = 10.0, 900.0


def score_remotely(server: str, clips: Sequence[str], prompts: Sequence[str], *, model: str | None) -> list[ClipScore]:
    """Scores all clips in their order; one that cannot be scored says why and does not stop the others.

    Raises:
        InputError: the service refuses all of it, or the key. ClusterError: it does not answer.
    """
    wanted = {}
    scores: dict[int, ClipScore] = {}
    for index, (clip, prompt) in enumerate(zip(clips, prompts, strict=True)):
        try:
            wanted[index] = (_readable(clip), prompt)
        except InputError as error:
            scores[index] = ClipScore(clip=clip, prompt=prompt, error=error)
    try:
        with Client(server, timeout_s=_FIRST_ANSWER_S) as client:
            client.models()  # a wrong address or key is told soon
            results = client.score_many(list(wanted.values()), model=model, timeout_s=_TIMEOUT_S) if wanted else []
    except ValueError as error:
        raise InputError(str(error)) from error
    except ScoringError as error:
        raise _told(error) from error
    for index, result in zip(wanted, results, strict=True):
        scores[index] = _clip_score(clips[index], prompts[index], result)
    return [scores[index] for index in range(len(clips))]


def _readable(clip: str) -> Path:
    path = clip_path(clip)
    try:
        with path.open("rb") as file:
            file.read(1)
    except OSError as error:
        raise InputError(f"{clip} cannot be read as a video: {error.strerror}") from error
    return path


def _clip_score(clip: str, prompt: str, result: Score | ApiError) -> ClipScore:
    if isinstance(result, ApiError):
        return ClipScore(clip=clip, prompt=prompt, error=_told(result, about=f"{clip}: "))
    model = result.model
    return ClipScore(
        clip=clip,
        prompt=prompt,
        raw=result.raw,
        normalised=result.normalised,
        reward=result.reward,
        model={"name": model.kind, "revision": model.revision, "files": dict(model.files), "dtype": model.dtype},
    )


def _told(error: ScoringError, *, about: str = "") -> OnlineVPOError:
    """The error with the exit code that it deserves."""
    if isinstance(error, Unreachable | TimedOut | Unavailable | RateLimited):
        return ClusterError(f"{about}{error}")
    if isinstance(error, ApiError) and error.status < 500:
        return InputError(f"{about}{error}")
    return OnlineVPOError(f"{about}{error}")
