"""What the service answers, as values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Self, TypeAlias

from services.client.errors import ApiError, error_of

JobState: TypeAlias = Literal["queued", "running", "succeeded", "failed", "canceled"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """Which model scored: `name` is the deployment's. `revision` changes whenever scores can."""

    name: str
    revision: str
    files: Mapping[str, str] = field(default_factory=dict)
    kind: str = ""
    dtype: str = ""
    dimensions: tuple[str, ...] = ()
    ready: bool = True

    @classmethod
    def of(cls, value: Mapping[str, Any]) -> Self:
        return cls(
            name=value["name"],
            revision=value["revision"],
            files=dict(value.get("files", {})),
            kind=value.get("model", ""),
            dtype=value.get("dtype", ""),
            dimensions=tuple(value.get("dimensions", ())),
            ready=value.get("ready", True),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What a video took: frames, and milliseconds of decoding, waiting and inference (its batch's time)."""

    frames: int
    decode_ms: float
    queue_ms: float
    inference_ms: float

    @classmethod
    def of(cls, value: Mapping[str, Any]) -> Self:
        return cls(**{name: value[name] for name in cls.__slots__})


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """Scores of one video by dimension, as the model gave them and on its own scale, and the one reward."""

    raw: Mapping[str, float]
    normalised: Mapping[str, float]
    reward: float
    model: Model
    usage: Usage
    id: str | None = None


ScoreOrError: TypeAlias = Score | ApiError


def score_or_error(entry: Mapping[str, Any], whole: Model | None = None) -> ScoreOrError:
    """An entry of an answer. `whole`: the answer's model, which says more than the entry's."""
    if "error" in entry:
        return error_of(entry["error"])
    model = Model.of(entry["model"])
    if whole is not None and (model.name, model.revision) == (whole.name, whole.revision):
        model = whole
    return Score(
        raw={name: score["raw"] for name, score in entry["scores"].items()},
        normalised={name: score["normalised"] for name, score in entry["scores"].items()},
        reward=entry["reward"],
        model=model,
        usage=Usage.of(entry["usage"]),
        id=entry.get("id"),
    )


def scores_of(answer: Mapping[str, Any]) -> list[ScoreOrError]:
    """All entries of an answer, or of a problem that has them."""
    whole = Model.of(answer["model"]) if "model" in answer else None
    return [score_or_error(entry, whole) for entry in answer["data"]]


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """An uploaded video. Its id is the SHA-256 of its bytes."""

    id: str
    bytes: int
    created_at: float

    @classmethod
    def of(cls, value: Mapping[str, Any]) -> Self:
        return cls(id=value["id"], bytes=value["bytes"], created_at=value["created_at"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Items of a job: finished, failed among those, all."""

    done: int
    failed: int
    total: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A request that is worked on in the background. `error` says why one failed."""

    id: str
    state: JobState
    attempt: int
    created_at: float
    ended_at: float | None
    queue_position: int | None = None
    progress: Progress | None = None
    error: ApiError | None = None
    scores: tuple[ScoreOrError, ...] | None = None

    @property
    def has_ended(self) -> bool:
        return self.state in ("succeeded", "failed", "canceled")

    @classmethod
    def of(cls, value: Mapping[str, Any]) -> Self:
        result, error, progress = value.get("result"), value.get("error"), value.get("progress")
        scored = result if result is not None else error
        return cls(
            id=value["id"],
            state=value["state"],
            attempt=value["attempt"],
            created_at=value["created_at"],
            ended_at=value.get("ended_at"),
            queue_position=value.get("queue_position"),
            progress=Progress(**progress) if progress is not None else None,
            error=error_of(error) if error is not None else None,
            scores=tuple(scores_of(scored)) if scored is not None and "data" in scored else None,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened to a job: `kind` is `state` or `progress`. Ids count up from 1."""

    id: int
    kind: str
    data: Mapping[str, Any]
