"""How much of anything one video may cost."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from policies.config import Config, PositiveFloat, PositiveInt

_BYTES_PER_PIXEL = 3


class MediaLimits(Config):
    """Upper bounds, checked against what a video's header claims and again against what is decoded. docs/media.md."""

    max_bytes: PositiveInt = 64 * 2**20
    """Bytes of one encoded video."""
    max_frame_pixels: Annotated[int, Field(gt=0, le=2**28)] = 2048 * 2048
    """Width times height."""
    max_frames: PositiveInt = 1024
    """Frames of one video."""
    max_seconds: PositiveFloat = 60.0
    """Length of one video."""
    max_fps: PositiveFloat = 240.0
    """Frames per second that a header may claim."""
    max_pixels: PositiveInt = 2**28
    """Pixels of all frames together; three bytes each once decoded."""
    decode_s: PositiveFloat = 20.0
    """Wall and CPU seconds for one video."""
    decode_memory_bytes: PositiveInt = 2**30
    """A decoder's address space beyond its start and its frames."""
    decode_threads: Annotated[int, Field(ge=1, le=64)] = 1
    """Threads of one decoder; more slots use cores better."""
    clips_per_child: PositiveInt = 256
    """Videos after which a decoder process is replaced."""
    start_s: PositiveFloat = 30.0
    """Seconds for a decoder process to start."""

    @property
    def decoded_bytes(self) -> int:
        """Of the largest video that passes."""
        return self.max_pixels * _BYTES_PER_PIXEL
