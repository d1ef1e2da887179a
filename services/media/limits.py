"""How much of anything one video may cost."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

_BYTES_PER_PIXEL = 3


class MediaLimits(BaseModel):
    """Upper bounds, checked against what a video's header claims and again against what is decoded. docs/media.md."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_bytes: int = Field(default=64 * 2**20, gt=0, description="of one encoded video")
    max_frame_pixels: int = Field(default=2048 * 2048, gt=0, le=2**28, description="width times height")
    max_frames: int = Field(default=1024, gt=0)
    max_seconds: float = Field(default=60.0, gt=0)
    max_fps: float = Field(default=240.0, gt=0, description="frames per second that a header may claim")
    max_pixels: int = Field(default=2**28, gt=0, description="of all frames together; three bytes each once decoded")
    decode_s: float = Field(default=20.0, gt=0, description="wall and CPU seconds for one video")
    decode_memory_bytes: int = Field(
        default=2**30, gt=0, description="a decoder's address space beyond its start and its frames"
    )
    decode_threads: int = Field(default=1, ge=1, le=64, description="of one decoder; more slots use cores better")
    clips_per_child: int = Field(default=256, gt=0, description="videos after which a decoder process is replaced")
    start_s: float = Field(default=30.0, gt=0, description="for a decoder process to start")

    @property
    def decoded_bytes(self) -> int:
        """Of the largest video that passes."""
        return self.max_pixels * _BYTES_PER_PIXEL
