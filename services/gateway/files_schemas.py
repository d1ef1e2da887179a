"""Files in the API's description."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import Path
from pydantic import BaseModel, Field

_ID = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"

FileId = Annotated[
    str, Path(pattern="^[0-9a-f]{64}$", description="Id of a file: the SHA-256 of its bytes.", examples=[_ID])
]


class VideoFacts(BaseModel):
    """What a video is, found by decoding it."""

    container: Literal["mp4", "webm"]
    codec: Literal["h264", "av1", "vp9"]
    frames: int = Field(examples=[81])
    height: int = Field(examples=[480])
    width: int = Field(examples=[832])
    fps: float = Field(examples=[16.0])
    seconds: float = Field(examples=[5.0625])


class FileView(BaseModel):
    """An uploaded video."""

    id: str = Field(description="The SHA-256 of its bytes.", examples=[_ID])
    object: Literal["file"]
    bytes: int = Field(examples=[44032])
    media_type: Literal["video/mp4", "video/webm"] = Field(description="What its bytes are, whatever was announced.")
    created_at: float = Field(
        description="When this API key uploaded it; seconds since 1970.", examples=[1764892800.25]
    )
    video: VideoFacts | None = Field(
        description="Null where it was too large or the decoders too busy when it came; it is decoded to be scored."
    )


class UploadedFile(FileView):
    """The answer to an upload."""

    deduplicated: bool = Field(description="Whether this API key had it already.")


class FileList(BaseModel):
    """A page of files, newest first."""

    object: Literal["list"]
    data: list[FileView]
    has_more: bool
    next_cursor: str | None = Field(description="`cursor` of the next page.")


class DeletedFile(BaseModel):
    """A file that this API key no longer has."""

    id: str = Field(examples=[_ID])
    object: Literal["file"]
    deleted: Literal[True]
