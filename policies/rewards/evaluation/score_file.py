"""Scores on disk, one line per video, so that an evaluation that was killed goes on where it was.

A line is found again by a key of what its scores depend on: the model's identity, the bytes of the video and the
prompt. So a file may hold scores of several models, and a video that changed is scored again.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from policies.errors import InputError
from policies.rewards.evaluation.layouts import PromptedVideo


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoScores:
    """What a reward model says about one video. All numbers are finite."""

    raw: Mapping[str, float]
    normalised: Mapping[str, float]
    overall: float


class ScoreFile:
    """An append-only JSON-lines file of scores; a context manager, and only one process may write it at a time.

    Args:
        path: of the file; made with its folder if it is not there.
        identity: whatever the scores of a model depend on, as JSON values: name, revision, files, precision.
    Raises:
        InputError: the file cannot be opened, or another process writes it, or it begins with something else.
    """

    def __init__(self, path: Path, identity: Mapping[str, Any]) -> None:
        self._identity = json.dumps(identity, sort_keys=True, allow_nan=False)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("a+b")
        except OSError as error:
            raise InputError(f"{path}: cannot be written: {error.strerror}") from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._file.close()
            raise InputError(f"{path}: another evaluation is writing it; wait for it or take another folder") from None
        self._path = path
        self._scores = self._read()

    def __enter__(self) -> ScoreFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def key(self, file_sha256: str, prompt: str) -> str:
        """What a video's scores are found by."""
        return hashlib.sha256("\x1f".join((self._identity, file_sha256, prompt)).encode()).hexdigest()

    def get(self, key: str) -> VideoScores | None:
        """Scores that are there already."""
        return self._scores.get(key)

    def append(self, batch: Sequence[tuple[str, PromptedVideo, VideoScores]]) -> None:
        """Writes the scores of videos that were scored together to the end of the file, at once, each with its key."""
        lines = [
            {
                "key": key,
                "path": video.path,
                "prompt": video.prompt,
                "raw": dict(scores.raw),
                "normalised": dict(scores.normalised),
                "overall": scores.overall,
                "more": len(batch) - index,
            }
            for index, (key, video, scores) in enumerate(batch, start=1)
        ]
        self._file.write(b"".join(json.dumps(line, allow_nan=False).encode() + b"\n" for line in lines))
        self._file.flush()
        self._scores.update({key: scores for key, _, scores in batch})

    def _read(self) -> dict[str, VideoScores]:
        """Every whole batch. What a kill has torn is cut off; a line that was damaged otherwise is scored again.

        A batch is kept whole or not at all, so that the same videos meet in a batch again: in float32 the company
        changes the last digits of a score, and a resumed evaluation shall equal an unbroken one.
        """
        self._file.seek(0)
        found: dict[str, VideoScores] = {}
        torn: dict[str, VideoScores] = {}
        end = 0
        for line in self._file:
            read = _parsed(line)
            if read is None and not found and not torn and line.endswith(b"\n"):
                self._file.close()
                raise InputError(f"{self._path}: is no file of scores, and would be cut; take another folder")
            if read is not None:
                key, scores, more = read
                torn[key] = scores
                if more == 0:
                    found.update(torn)
                    torn.clear()
                    end = self._file.tell()
        self._file.truncate(end)
        self._file.seek(0, os.SEEK_END)
        return found


def _parsed(line: bytes) -> tuple[str, VideoScores, int] | None:
    """Key, scores, and how many lines of the same batch follow; None for a line that is not whole."""
    if not line.endswith(b"\n"):
        return None
    try:
        value = json.loads(line)
        scores = VideoScores(
            raw=_numbers(value["raw"]), normalised=_numbers(value["normalised"]), overall=_number(value["overall"])
        )
        return str(value["key"]), scores, int(value["more"])
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def _numbers(values: Mapping[str, Any]) -> dict[str, float]:
    return {str(name): _number(value) for name, value in values.items()}


def _number(value: Any) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"{value} is not finite")
    return number
