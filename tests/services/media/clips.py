"""Clips as PyAV writes them, and what attackers make of them."""

from __future__ import annotations

import functools
import io
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager

import av
import numpy as np

ALLOWED = (("mp4", "h264"), ("mp4", "av1"), ("mp4", "vp9"), ("webm", "vp9"), ("webm", "av1"))
_ENCODERS = {"h264": "libx264", "av1": "libsvtav1", "vp9": "libvpx-vp9", "hevc": "libx265"}
_FASTEST = {
    "h264": {"preset": "ultrafast", "tune": "zerolatency"},
    "av1": {"preset": "12", "svtav1-params": "lp=1"},
    "vp9": {"deadline": "realtime", "cpu-used": "8"},
    "hevc": {"preset": "ultrafast", "x265-params": "log-level=none"},
}


@functools.cache
def clip(
    container: str = "mp4", codec: str = "h264", *, frames: int = 8, height: int = 64, width: int = 96, rate: int = 8,
    seed: int = 0, pix_fmt: str = "yuv420p",
) -> bytes:  # fmt: skip
    """A clip of a moving ramp of colours; seed -1 is black."""
    file = io.BytesIO()
    with _quiet(), av.open(file, "w", format=container) as opened:
        stream = opened.add_stream(_ENCODERS.get(codec, codec), rate=rate)
        stream.height, stream.width, stream.pix_fmt = height, width, pix_fmt
        stream.options = _FASTEST.get(codec, {})
        for picture in _pictures(frames, height, width, seed):
            opened.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        opened.mux(stream.encode())
    return file.getvalue()


@functools.cache
def bomb(container: str = "mp4") -> bytes:
    """A few kilobytes of 600 black frames of 3840 x 2160: 14.9 GB once decoded."""
    file = io.BytesIO()
    with av.open(file, "w", format=container) as opened:
        stream = opened.add_stream("libx264" if container == "mp4" else "libvpx-vp9", rate=24)
        stream.height, stream.width, stream.pix_fmt = 2160, 3840, "yuv420p"
        stream.options = {"preset": "ultrafast", "g": "1000", "deadline": "realtime", "cpu-used": "8"}
        black = av.VideoFrame.from_ndarray(np.zeros((2160, 3840, 3), np.uint8), format="rgb24").reformat(
            format="yuv420p"
        )
        for index in range(600):
            black.pts = index
            opened.mux(stream.encode(black))
        opened.mux(stream.encode())
    return file.getvalue()


@functools.cache
def tone(container: str = "mp4") -> bytes:
    """Sound and nothing else."""
    file = io.BytesIO()
    with av.open(file, "w", format=container) as opened:
        stream = opened.add_stream("aac" if container == "mp4" else "libopus", rate=48000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 960), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 48000
        for index in range(20):
            frame.pts = 960 * index
            opened.mux(stream.encode(frame))
        opened.mux(stream.encode())
    return file.getvalue()


def boxes(data: bytes, kind: bytes) -> Iterator[int]:
    """Where the contents of boxes of a kind begin; found by their name alone."""
    at = data.find(kind)
    while at >= 0:
        yield at + 4
        at = data.find(kind, at + 1)


def patched(data: bytes, kind: bytes, offset: int, form: str, *values: int) -> bytes:
    """With other values in every box of a kind."""
    changed = bytearray(data)
    found = list(boxes(data, kind))
    assert found, kind
    for at in found:
        struct.pack_into(form, changed, at + offset, *values)
    return bytes(changed)


def with_size(data: bytes, width: int, height: int) -> bytes:
    """An H.264 MP4 whose header claims another frame size than its frames have."""
    data = patched(data, b"tkhd", 76, ">II", width << 16, height << 16)
    return (
        patched(data, b"avc1", 24, ">HH", width, height)
        if data.count(b"avc1") == 1
        else _second_avc1(data, width, height)
    )


def _second_avc1(data: bytes, width: int, height: int) -> bytes:
    changed = bytearray(data)
    struct.pack_into(">HH", changed, list(boxes(data, b"avc1"))[-1] + 24, width, height)  # the first is a brand
    return bytes(changed)


def with_frames(data: bytes, frames: int) -> bytes:
    """An MP4 whose header claims another number of frames, and of ticks."""
    data = patched(data, b"stsz", 8, ">I", frames)
    for kind, offset in ((b"mvhd", 16), (b"tkhd", 20), (b"mdhd", 16)):
        data = patched(data, kind, offset, ">I", frames)
    return data


def with_external_reference(data: bytes, path: bytes = b"file:///etc/passwd") -> bytes:
    """An MP4 whose frames are said to lie in another file."""
    (at,) = boxes(data, b"url ")
    changed = bytearray(data)
    changed[at : at + 4] = bytes(4)  # no longer "in this file"
    start, added = at - 8, path + b"\0"
    for kind in (b"moov", b"trak", b"mdia", b"minf", b"dinf", b"dref"):
        (where,) = boxes(data, kind)
        changed[where - 8 : where - 4] = struct.pack(
            ">I", int.from_bytes(data[where - 8 : where - 4], "big") + len(added)
        )
    changed[start : start + 4] = struct.pack(">I", 12 + len(added))
    changed[at + 4 : at + 4] = added
    return bytes(changed)


def mutated(data: bytes, seed: int) -> bytes:
    """Changed in a few places: bytes, runs, lengths, order, end."""
    rng = np.random.default_rng(seed)
    changed = bytearray(data)
    for _ in range(int(rng.integers(1, 9))):
        at, length = int(rng.integers(len(changed))), int(rng.integers(1, 17))
        match int(rng.integers(6)):
            case 0:
                changed[at] ^= 1 << int(rng.integers(8))
            case 1:
                changed[at : at + length] = rng.bytes(len(changed[at : at + length]))
            case 2:
                extreme = rng.choice([0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF])
                changed[at : at + 4] = struct.pack(">I", int(extreme))[: len(changed[at : at + 4])]
            case 3:
                del changed[at : at + length]
            case 4:
                changed[at:at] = changed[at : at + length]
            case 5 if rng.random() < 0.2:
                del changed[max(at, 64) :]
            case _:
                changed[at] = int(rng.integers(256))
    return bytes(changed)


def _pictures(frames: int, height: int, width: int, seed: int) -> Iterator[np.ndarray]:
    rows, columns = np.mgrid[:height, :width]
    for index in range(frames):
        shift = 9 * index + 31 * seed
        picture = np.stack([columns + shift, rows + 2 * shift, rows + columns - shift], axis=-1) % 256
        yield np.ascontiguousarray(picture * (seed >= 0), dtype=np.uint8)


@contextmanager
def _quiet() -> Iterator[None]:
    """SVT-AV1 writes to the standard error whatever it is told."""
    kept, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(null)
