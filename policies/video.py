"""Videos on disk: H.264 in MP4, which every browser plays, and contact sheets as PNG. Frames are uint8 (F, H, W, 3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from policies.errors import InputError

_CONSTANT_RATE_FACTOR = "16"  # visually close to lossless; toy clips are all edges
_GAP, _MARGIN_TOP, _FONT_SIZE = 4, 18, 12  # of a contact sheet, pixels
_FIRST_COLUMN_WIDTH = 200


def write_video(path: Path, frames: np.ndarray, *, fps: float, upscale: int = 1) -> None:
    """Writes frames as H.264 MP4 (yuv420p).

    Args:
        path: of the .mp4; its folder must exist.
        frames: uint8 (F, H, W, 3), F >= 1.
        fps: frames per second.
        upscale: whole factor by which every pixel is repeated, for clips too small to look at. A side that is odd
            afterwards gets its last row or column twice: yuv420p has one colour per two pixels.
    Raises:
        InputError: frames of another type or layout.
    """
    _check_frames(frames)
    pixels = frames.repeat(upscale, axis=1).repeat(upscale, axis=2)
    pixels = np.pad(pixels, ((0, 0), (0, pixels.shape[1] % 2), (0, pixels.shape[2] % 2), (0, 0)), mode="edge")
    with av.open(str(path), mode="w", format="mp4", options={"movflags": "+faststart"}) as container:
        stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001))
        stream.height, stream.width = pixels.shape[1:3]
        stream.pix_fmt = "yuv420p"
        # One thread: the same frames then give the same file.
        stream.options = {"crf": _CONSTANT_RATE_FACTOR, "threads": "1"}
        for picture in pixels:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")))
        container.mux(stream.encode())


def read_video(path: Path) -> np.ndarray:
    """Reads all frames of a video, uint8 (F, H, W, 3).

    Raises:
        InputError: the file is no video that can be read.
    """
    try:
        with av.open(str(path)) as container:
            frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    except (av.FFmpegError, OSError, IndexError) as error:
        raise InputError(f"{path} cannot be read as a video: {error}") from error
    if not frames:
        raise InputError(f"{path} holds no frames")
    return np.stack(frames)


@dataclass(frozen=True, slots=True, kw_only=True)
class SheetRow:
    """One row of a contact sheet: what it shows, and the clips side by side (such as before and after)."""

    label: str
    clips: tuple[np.ndarray, ...]  # each uint8 (F, H, W, 3), all of one shape in a sheet


def write_contact_sheet(
    path: Path, rows: Sequence[SheetRow], *, titles: Sequence[str], frames_shown: int = 5, upscale: int = 2
) -> None:
    """Writes a PNG with one row per prompt and one column per title, each cell a few evenly spaced frames.

    Args:
        path: of the .png.
        rows: at least one; every row has one clip per title.
        titles: column heads, such as ("before", "after").
        frames_shown: frames per cell, first and last included.
        upscale: whole factor by which every pixel is repeated.
    Raises:
        InputError: no rows, or a row whose clips do not fit the titles.
    """
    if not rows or any(len(row.clips) != len(titles) for row in rows):
        raise InputError(f"a contact sheet needs rows of {len(titles)} clips: {', '.join(titles)}")
    cells = [[_strip(clip, frames_shown, upscale) for clip in row.clips] for row in rows]
    height, width = cells[0][0].shape[:2]
    sheet = Image.new(
        "RGB",
        (_FIRST_COLUMN_WIDTH + len(titles) * (width + _GAP), _MARGIN_TOP + len(rows) * (height + _GAP)),
        "white",
    )
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(_FONT_SIZE)
    for column, title in enumerate(titles):
        draw.text((_FIRST_COLUMN_WIDTH + column * (width + _GAP), 1), title, fill="black", font=font)
    for index, (row, strips) in enumerate(zip(rows, cells, strict=True)):
        top = _MARGIN_TOP + index * (height + _GAP)
        draw.text((_GAP, top + height // 2 - _FONT_SIZE // 2), row.label, fill="black", font=font)
        for column, strip in enumerate(strips):
            sheet.paste(Image.fromarray(strip), (_FIRST_COLUMN_WIDTH + column * (width + _GAP), top))
    sheet.save(path, format="PNG")


def _strip(clip: np.ndarray, frames_shown: int, upscale: int) -> np.ndarray:
    """A few frames side by side, (H, n W, 3)."""
    _check_frames(clip)
    shown = np.linspace(0, len(clip) - 1, min(frames_shown, len(clip))).round().astype(int)
    return np.concatenate(list(clip[shown]), axis=1).repeat(upscale, axis=0).repeat(upscale, axis=1)


def _check_frames(frames: np.ndarray) -> None:
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[-1] != 3 or 0 in frames.shape:
        raise InputError(f"frames must be uint8 (F, H, W, 3), got {frames.dtype} {frames.shape}")
