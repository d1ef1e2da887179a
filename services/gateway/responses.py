"""What callers are answered, for the API's description. Answers are not validated against it on their way out."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from services.gateway.examples import PROBLEM
from services.gateway.requests import without_default

Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
_HASH = "42d8f579243d8e1174f6d907218d6ae7ad8a5438bd8e41b782fbde010c20cc74"


def _maybe(**more: Any) -> Any:
    """A field that may be absent, but is never null."""
    return Field(None, json_schema_extra=without_default, **more)


class _Closed(BaseModel):
    model_config = ConfigDict(extra="forbid")


class ErrorPlace(BaseModel):
    """Where a request is wrong: a part of the body, or a parameter."""

    pointer: str = _maybe(description="JSON pointer (RFC 6901) into the body.", examples=["/items/0/video"])
    parameter: str = _maybe(description="Name of a parameter of the query, path or headers.")
    detail: str


class Problem(BaseModel):
    """RFC 9457 problem details. Nothing that was sent is in it."""

    model_config = ConfigDict(json_schema_extra=lambda schema: schema.update(examples=[PROBLEM]))

    type: str = Field(description="Address of a page about it.", examples=["/problems/video_damaged"])
    title: str
    status: int = Field(ge=400, le=599)
    detail: str = Field(description="One sentence.")
    code: str = Field(description="For programs.", examples=["video_damaged"])
    request_id: str
    retryable: bool = Field(description="Whether the same request may succeed later.")
    retry_after_s: int = _maybe(ge=1, description="Seconds after which to try again.")
    errors: list[ErrorPlace] = _maybe()


class ModelName(_Closed):
    """A model and its revision."""

    name: str = Field(description="Of the deployment; what requests call it.", examples=["shapes"])
    model: str = Field(description="Of the reward model itself.", examples=["shapes"])
    revision: str = Field(description="Changes with everything that scores depend on.", examples=[_HASH])
    files: dict[str, str] = Field(description="SHA-256 of each file.", examples=[{"model.safetensors": _HASH}])
    dtype: str = Field(description="Precision of the network.", examples=["float32"])


class ItemModel(_Closed):
    """What scored an item."""

    name: str = Field(examples=["shapes"])
    revision: str = Field(examples=[_HASH])
    files: dict[str, str] = Field(examples=[{"model.safetensors": _HASH}])


class DimensionScore(_Closed):
    """`raw` is the model's number, `normalised` the same on its authors' scale."""

    raw: float = Field(examples=[3.39])
    normalised: float = Field(examples=[3.39])


class ItemUsage(_Closed):
    """What an item took. `inference_ms` is the time of the batch that it was in."""

    frames: int = Field(examples=[9])
    decode_ms: float = Field(examples=[7.2])
    queue_ms: float = Field(examples=[0.4])
    inference_ms: float = Field(examples=[5.1])


class Score(BaseModel):
    """An item's scores, or its problem."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"oneOf": [{"required": ["scores", "reward", "model", "usage"]}, {"required": ["error"]}]},
    )

    index: int = Field(ge=0)
    id: str | None = Field(description="The item's own id.")
    object: Literal["score"]
    scores: dict[str, DimensionScore] = _maybe(description="By dimension.")
    reward: float = _maybe(description="The model's overall.", examples=[3.25])
    model: ItemModel = _maybe()
    usage: ItemUsage = _maybe()
    error: Problem = _maybe()


class Usage(_Closed):
    """What all items took together."""

    items: int
    scored: int
    frames: int
    decode_ms: float


class ScoreList(_Closed):
    """One entry per item, in their order."""

    id: str
    object: Literal["list"]
    model: ModelName
    partial: bool = Field(description="Whether any item has a problem instead of scores.")
    data: list[Score]
    usage: Usage


class Place(_Closed):
    """A candidate's place."""

    rank: int = Field(ge=1, description="Tied neighbours share one.")
    index: int = Field(ge=0, description="Of the candidate in the request.")
    reward: float
    margin_to_best: float = Field(ge=0)
    margin_to_next: float = _maybe(ge=0)
    tie: bool = Field(description="Whether it is tied with a neighbour.")


class Comparison(_Closed):
    """Candidates, best first."""

    id: str
    object: Literal["comparison"]
    model: ModelName
    partial: bool = Field(description="Whether any candidate has a problem and is not ranked.")
    tie: bool = Field(description="Whether the best two are tied.")
    tie_margin: float
    ranking: list[Place]
    data: list[Score] = Field(description="One entry per candidate, in the order of the request.")
    usage: Usage


class ModelView(ModelName):
    """A model, and how it stands."""

    object: Literal["model"]
    dimensions: list[str] = Field(examples=[["VQ", "MQ", "TA"]])
    ready: bool = Field(description="Whether it could score now.")
    queued: int = Field(description="Items that wait for it.")
    restarting: bool
    default: bool = Field(description="Whether it is the model of requests that name none.")


class ModelList(_Closed):
    """All models."""

    object: Literal["list"]
    data: list[ModelView]
    has_more: bool
    next_cursor: str | None


class Alive(_Closed):
    status: Literal["alive"]


class Ready(_Closed):
    status: Literal["ready"]


def schemas(*models: type[BaseModel]) -> dict[str, Any]:
    """Components that no route's `response_model` brings."""
    from pydantic.json_schema import models_json_schema

    _, definitions = models_json_schema(
        [(model, "validation") for model in models], ref_template="#/components/schemas/{model}"
    )
    found: dict[str, Any] = definitions["$defs"]
    return found
