"""What a guard and its decoder processes say to each other: short JSON objects behind their length, never videos."""

from __future__ import annotations

import json
import math
import os
import select
import struct
import time
from dataclasses import dataclass
from typing import Any

_LENGTH = struct.Struct("=I")
_LONGEST = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a decoder process is started with: descriptors, sizes in bytes, and whether it may go unprotected."""

    wire: int
    parent: int
    video: int
    video_bytes: int
    frames: int
    frames_bytes: int
    memory_bytes: int
    unsafe: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Caps:
    """What a decoder process is told of the limits."""

    max_frame_pixels: int
    max_frames: int
    max_seconds: float
    max_fps: float
    max_pixels: int
    threads: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What a decoded video is."""

    container: str
    codec: str
    frames: int
    height: int
    width: int
    fps: float

    @property
    def seconds(self) -> float:
        """How long it plays."""
        return self.frames / self.fps


class BrokenWire(ConnectionError):
    """The other side has gone, or says what no message is."""


def send(descriptor: int, message: dict[str, Any]) -> None:
    """Writes a message."""
    body = json.dumps(message).encode()
    os.write(descriptor, _LENGTH.pack(len(body)) + body)


def receive(descriptor: int, deadline: float | None = None) -> dict[str, Any]:
    """Reads a message.

    Args:
        deadline: by `time.monotonic`; a message of which the end does not come is waited for no longer than one that
            does not come at all.
    Raises:
        BrokenWire: there will be none.
        TimeoutError: the deadline passed.
    """
    (length,) = _LENGTH.unpack(_exactly(descriptor, _LENGTH.size, deadline))
    if length > _LONGEST:
        raise BrokenWire("a message is too long")
    try:
        message = json.loads(_exactly(descriptor, length, deadline))
    except (ValueError, RecursionError) as error:
        raise BrokenWire("a message cannot be read") from error
    if not isinstance(message, dict):
        raise BrokenWire("a message is no object")
    return message


def _exactly(descriptor: int, count: int, deadline: float | None) -> bytes:
    got = b""
    while len(got) < count:
        if deadline is not None:
            _wait(descriptor, deadline)
        part = os.read(descriptor, count - len(got))
        if not part:
            raise BrokenWire("the other side has gone")
        got += part
    return got


def _wait(descriptor: int, deadline: float) -> None:
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    if not poll.poll(max(0, math.ceil(1000 * (deadline - time.monotonic())))):
        raise TimeoutError("no answer in time")
