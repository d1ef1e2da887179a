"""What callers may ask for. Strict: no other types, no unknown fields, and absent is not null."""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from services.serve_config import NAME


def without_default(schema: dict[str, Any]) -> None:
    """Absent is not the same as any value."""
    schema.pop("default", None)


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


class Video(_Strict):
    """One of the three."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1, "maxProperties": 1})

    file_id: Annotated[
        str, Field(pattern=r"^[0-9a-f]{64}$", description="Of POST /v1/files.", json_schema_extra=without_default)
    ] = ""
    data: Annotated[
        str,
        Field(
            min_length=1,
            description="The video itself: data:video/mp4;base64,... or data:video/webm;base64,...",
            json_schema_extra=lambda schema: schema.update(pattern=_DATA_URL) or without_default(schema),
        ),
    ] = ""
    uri: Annotated[
        str,
        Field(
            min_length=1, max_length=1024, description="root/path.mp4, below a root of the server's configuration.",
            json_schema_extra=lambda schema: schema.update(pattern=_URI) or without_default(schema),
        ),
    ] = ""  # fmt: skip

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        if self.uri[:8].lower().startswith(("https://", "http://")):
            raise PydanticCustomError("not_offered", "later")
        if len(self.model_fields_set) != 1:
            raise PydanticCustomError("one_video", "one of three")
        return self


_DATA_URL = r"^data:video/(mp4|webm);base64,[A-Za-z0-9+/]+={0,2}$"
_URI = r"^[a-z0-9][a-z0-9._-]{0,63}/[^\\?#*\x00-\x1f]+$"

Prompt = Annotated[str, Field(min_length=1, pattern=r"^[^\x00]+$", description="What the video was made from.")]
Model = Annotated[
    str, Field(pattern=NAME, description="Of GET /v1/models; by default the first.", json_schema_extra=without_default)
]
Dimensions = Annotated[
    list[str],
    Field(min_length=1, max_length=64, description="Of the model; by default all.", json_schema_extra=without_default),
]
Timeout = Annotated[
    float, Field(gt=0, description="Seconds that the answer may take.", json_schema_extra=without_default)
]


ID = r"^[A-Za-z0-9._:-]{1,128}$"


class Item(_Strict):
    """A video with its prompt."""

    prompt: Prompt
    video: Video
    id: Annotated[
        str,
        Field(pattern=ID, description="Yours, given back.", json_schema_extra=without_default),
    ] = ""


class Envelope(_Strict):
    model: Model = ""
    dimensions: Dimensions = []
    timeout_s: Timeout = 0.0


class ScoreRequest(Envelope):
    """Videos to be scored."""

    items: Annotated[list[Item], Field(min_length=1)]


class CompareRequest(Envelope):
    """Videos made from one prompt, to be ranked."""

    prompt: Prompt
    videos: Annotated[list[Video], Field(min_length=2)]
    tie_margin: Annotated[
        float, Field(ge=0, description="Rewards that differ by no more are tied.", json_schema_extra=without_default)
    ] = 0.0


class LooseScoreRequest(Envelope):
    """As ScoreRequest, but what is wrong with an item stays with that item."""

    items: Annotated[list[Any], Field(min_length=1)]


class LooseCompareRequest(CompareRequest):
    videos: Annotated[list[Any], Field(min_length=2)]
