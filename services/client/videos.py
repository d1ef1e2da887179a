"""Videos as callers have them, and as requests carry them."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

Video: TypeAlias = Path | bytes | str
"""A file, the bytes of one, or text: the id of an uploaded file, or a path below a root of the service (`root/a`)."""

INLINE_BYTES = 2**20
"""Up to so many travel in the request itself; a larger video is uploaded first, as a stream."""

_FILE_ID = re.compile(r"[0-9a-f]{64}")
_WEBM = b"\x1aE\xdf\xa3"
_CHUNK = 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """The bytes of a video: in memory, or in a file."""

    id: str
    size: int
    source: Path | bytes

    @property
    def media_type(self) -> str:
        head = self.source[:4] if isinstance(self.source, bytes) else _head(self.source)
        return "video/webm" if head == _WEBM else "video/mp4"

    def data_url(self) -> str:
        data = self.source if isinstance(self.source, bytes) else self.source.read_bytes()
        return f"data:{self.media_type};base64,{base64.b64encode(data).decode()}"


def content_of(video: Video) -> Content | None:
    """The bytes to send; None for a video that the service has. Raises OSError for a file that cannot be read."""
    if isinstance(video, str):
        return None
    if isinstance(video, bytes):
        return Content(id=hashlib.sha256(video).hexdigest(), size=len(video), source=video)
    digest, size = hashlib.sha256(), 0
    with video.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            size += len(chunk)
    return Content(id=digest.hexdigest(), size=size, source=video)


def reference(video: str) -> Mapping[str, str]:
    """How a request names a video that the service has."""
    if _FILE_ID.fullmatch(video):
        return {"file_id": video}
    if "/" in video and not video.startswith(("/", ".")):
        return {"uri": video}
    raise ValueError(
        f"{video!r} is neither the id of an uploaded file nor root/path; for a file of this machine pass a Path"
    )


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(4)
