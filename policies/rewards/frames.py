"""Clips as reward models take them: all frames of a video file, and its frame rate."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np

from policies.errors import InputError

_CONTAINERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,gif"
"""What is opened. A playlist would make the reader open whatever addresses it holds."""

_LARGEST_CLIP = 8 * 2**30
"""Bytes of decoded frames. A few kilobytes of video can ask for any amount."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Clip:
    """Frames uint8 RGB (F, H, W, 3), and how many of them make a second."""

    frames_FHWC: np.ndarray
    fps: float


def read_clip(path: Path) -> Clip:
    """Reads all frames of a video file.

    Raises:
        InputError: there is no such file, or it is no video, truncated, damaged, empty or too large.
    """
    try:
        size = path.stat().st_size
        # an open file rather than a path, which could be read as an address
        with path.open("rb") as file, av.open(file, options={"format_whitelist": _CONTAINERS}) as container:
            if not container.streams.video:
                raise InputError(f"{path} holds no video")
            stream = container.streams.video[0]
            missing = max((entry.pos + entry.size for entry in stream.index_entries), default=0) - size
            if missing > 0:
                raise InputError(f"{path} is truncated: {missing} bytes of its frames are missing; copy it again")
            frames, fps = _decode(container, path), float(stream.average_rate or 0)
    except (av.FFmpegError, OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        # not the whole error, which may name the file once more
        reason = error.strerror if isinstance(error, OSError | av.FFmpegError) else error
        raise InputError(f"{path} cannot be read as a video: {reason}") from error
    if not frames:
        raise InputError(f"{path} holds no frames")
    if fps <= 0:
        raise InputError(f"{path} does not say how many frames make a second; write it again with a frame rate")
    return Clip(frames_FHWC=np.stack(frames), fps=fps)


def _decode(container: av.container.InputContainer, path: Path) -> list[np.ndarray]:
    frames: list[np.ndarray] = []
    size = 0
    for frame in container.decode(video=0):
        size += 3 * frame.height * frame.width
        if size > _LARGEST_CLIP:
            raise InputError(f"{path} has more than {_LARGEST_CLIP // 2**30} GiB of frames; cut it into shorter clips")
        frames.append(frame.to_ndarray(format="rgb24"))
        if frames[-1].shape != frames[0].shape:
            raise InputError(f"{path} changes its frame size from {frames[0].shape} to {frames[-1].shape}")
    return frames
