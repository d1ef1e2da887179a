"""A video's bytes to frames. Runs in a decoder process only; imports nothing but PyAV and numpy.

A header is a claim: what it says is checked first, because that is cheap; then the packets are counted; and each frame
is checked once more when it is there.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import av
import numpy as np

from services.media.boxes import is_cut_off, names_other_files
from services.media.refusal import Code, MediaRefused
from services.media.wire import Caps, Facts

_DEMUXERS = {"mp4": "mp4", "webm": "matroska"}
_CODECS = frozenset({"h264", "av1", "vp9"})
_DECODERS = "h264,libdav1d,vp9"
_MAX_STREAMS = 16
_DAMAGE = (av.FFmpegError, ValueError, LookupError, ArithmeticError, UnicodeError, OSError, RuntimeError, TypeError)


def decode(data: bytes, container: str, caps: Caps, out: np.ndarray) -> Facts:
    """Decodes the first video stream; sound, subtitles and attachments are never decoded.

    Args:
        data: the whole file.
        container: as `services.media.sniff` found it.
        out: uint8 (caps.max_pixels * 3,); its start becomes the RGB frames, (F, H, W, 3).
    Raises:
        MediaRefused: with the reason.
    """
    try:
        if container == "mp4":
            _check_boxes(data)
        with _open(data, container, caps, decoders="none") as opened:
            _check_claims(_video_stream(opened), caps, len(data))
        with _open(data, container, caps, decoders=_DECODERS) as opened:
            return _decode(opened, container, caps, out, len(data))
    except MediaRefused:
        raise
    except MemoryError as error:
        raise MediaRefused(Code.OUT_OF_MEMORY) from error
    except _DAMAGE as error:
        raise MediaRefused(Code.DAMAGED) from error


def _check_boxes(data: bytes) -> None:
    if is_cut_off(data):
        raise MediaRefused(Code.TRUNCATED)
    if names_other_files(data):
        raise MediaRefused(Code.EXTERNAL)


def _decode(opened: Any, container: str, caps: Caps, out: np.ndarray, size: int) -> Facts:
    stream = _video_stream(opened)
    packets = _packets(opened, stream, caps, size)
    if len(packets) * stream.width * stream.height > caps.max_pixels:
        raise MediaRefused(Code.DECODED_TOO_LARGE)
    fps = _fps(stream, caps)
    _check_length(len(packets), fps, caps)
    frames, height, width = _write_frames(_frames(stream, packets, caps), len(packets), caps, out)
    _check_length(frames, fps, caps)
    codec = stream.codec_context.codec.canonical_name
    return Facts(container=container, codec=codec, frames=frames, height=height, width=width, fps=fps)


def _refuse_to_open(*_: object) -> None:
    raise PermissionError("a video may not name other files")


def _open(data: bytes, container: str, caps: Caps, *, decoders: str) -> Any:
    """The container. Opening it tries frames out, of sound too, but with these decoders only."""
    options = {
        "format_whitelist": "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm",
        "codec_whitelist": decoders,
        "protocol_whitelist": "none",
        "max_streams": str(_MAX_STREAMS),
        "max_pixels": _padded(caps.max_frame_pixels),
    }
    if container == "mp4":
        options |= {"enable_drefs": "0", "use_absolute_path": "0"}
    file = io.BytesIO(data)
    return av.open(
        file, format=_DEMUXERS[container], options=options, metadata_errors="replace", io_open=_refuse_to_open
    )


def _padded(pixels: int) -> str:
    """Room for a frame's rows as a decoder pads them; the exact bound is checked on each frame."""
    return str(pixels * 5 // 4 + 2**16)


def _video_stream(opened: Any) -> Any:
    attached = av.stream.Disposition.attached_pic
    streams = [stream for stream in opened.streams.video if not stream.disposition & attached]
    if not streams:
        raise MediaRefused(Code.NO_VIDEO)
    stream = streams[0]
    for other in opened.streams:
        if other.index != stream.index:
            other.discard = "all"
    context = stream.codec_context
    if context is None or context.codec.canonical_name not in _CODECS:
        raise MediaRefused(Code.CODEC)
    return stream


def _check_claims(stream: Any, caps: Caps, size: int) -> None:
    """What the header says, before anything is read or decoded because of it."""
    pixels = stream.width * stream.height
    if pixels > caps.max_frame_pixels:
        raise MediaRefused(Code.FRAME_TOO_LARGE)
    if stream.frames > caps.max_frames:
        raise MediaRefused(Code.TOO_MANY_FRAMES)
    if stream.frames * pixels > caps.max_pixels:
        raise MediaRefused(Code.DECODED_TOO_LARGE)
    if stream.duration and stream.time_base and stream.duration * stream.time_base > caps.max_seconds:
        raise MediaRefused(Code.TOO_LONG)
    for count, entry in enumerate(stream.index_entries):
        if count > caps.max_frames:
            raise MediaRefused(Code.TOO_MANY_FRAMES)
        if entry.pos + entry.size > size:
            raise MediaRefused(Code.TRUNCATED)


def _packets(opened: Any, stream: Any, caps: Caps, size: int) -> list[Any]:
    """All packets of the stream. How many there are is no claim: it bounds what decoding them gives."""
    packets: list[Any] = []
    total = 0
    for packet in opened.demux(stream):
        if not packet.size:
            continue
        total += packet.size
        packets.append(packet)
        if len(packets) > caps.max_frames:
            raise MediaRefused(Code.TOO_MANY_FRAMES)
        if total > size:  # an index may point at the same bytes again and again
            raise MediaRefused(Code.DAMAGED)
    if not packets:
        raise MediaRefused(Code.NO_FRAMES)
    return packets


def _fps(stream: Any, caps: Caps) -> float:
    fps = float(stream.average_rate or 0)
    if not 0 < fps <= caps.max_fps:
        raise MediaRefused(Code.NO_FRAME_RATE)
    return fps


def _check_length(frames: int, fps: float, caps: Caps) -> None:
    if frames > caps.max_seconds * fps:
        raise MediaRefused(Code.TOO_LONG)


def _frames(stream: Any, packets: list[Any], caps: Caps) -> Iterator[Any]:
    stream.codec_context.thread_count = caps.threads
    stream.codec_context.options = {"max_pixels": _padded(caps.max_frame_pixels)}
    for packet in packets:
        yield from stream.decode(packet)
    yield from stream.decode(None)


def _write_frames(frames: Iterator[Any], expected: int, caps: Caps, out: np.ndarray) -> tuple[int, int, int]:
    """Writes each frame behind the last; how many there are, their height and width.

    Args:
        expected: how many there will be, so that too many are noticed at the first.
    """
    count = height = width = 0
    for frame in frames:
        if not count:
            height, width = frame.height, frame.width
        if (frame.height, frame.width) != (height, width):
            raise MediaRefused(Code.FRAME_SIZE_CHANGES)
        if height * width > caps.max_frame_pixels:
            raise MediaRefused(Code.FRAME_TOO_LARGE)
        if count >= caps.max_frames:
            raise MediaRefused(Code.TOO_MANY_FRAMES)
        if max(count + 1, expected) * height * width > caps.max_pixels:
            raise MediaRefused(Code.DECODED_TOO_LARGE)
        if frame.is_corrupt:
            raise MediaRefused(Code.DAMAGED)
        size = 3 * height * width
        out[count * size : (count + 1) * size] = frame.to_ndarray(format="rgb24").reshape(-1)
        count += 1
    if not count:
        raise MediaRefused(Code.NO_FRAMES)
    return count, height, width
