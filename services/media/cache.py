"""What recent videos gave, by the hash of their bytes: the least recently asked for goes first."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

import numpy as np

from services.media.refusal import Code
from services.media.wire import Facts

_SMALL = 1024  # bytes that an entry takes besides its frames


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Media:
    """A decoded video: frames uint8 RGB (F, H, W, 3), read-only; what it is; the SHA-256 of its bytes, in hex."""

    frames_FHWC: np.ndarray
    facts: Facts
    sha256: str

    @property
    def fps(self) -> float:
        """Frames per second."""
        return self.facts.fps


class MediaCache:
    """Holds at most `max_bytes` of frames and refusals. Not for several threads."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._entries: OrderedDict[str, Media | Code] = OrderedDict()

    def get(self, sha256: str) -> Media | Code | None:
        """What the video with this hash gave, if that is still known."""
        found = self._entries.get(sha256)
        if found is not None:
            self._entries.move_to_end(sha256)
        return found

    def put(self, sha256: str, outcome: Media | Code) -> None:
        """Remembers an outcome, unless it alone is more than may be held."""
        if _size(outcome) > self._max_bytes:
            return
        replaced = self._entries.pop(sha256, None)
        self._bytes += _size(outcome) - (0 if replaced is None else _size(replaced))
        self._entries[sha256] = outcome
        while self._bytes > self._max_bytes:
            self._bytes -= _size(self._entries.popitem(last=False)[1])


def _size(outcome: Media | Code) -> int:
    return _SMALL + (0 if isinstance(outcome, Code) else outcome.frames_FHWC.nbytes)
