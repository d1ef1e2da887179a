from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from policies.errors import InputError
from policies.video import SheetRow, read_video, write_contact_sheet, write_video


def clip(frames: int = 9, height: int = 32, width: int = 32) -> np.ndarray:
    """A square that moves right over a smooth background."""
    video = np.full((frames, height, width, 3), (40, 90, 160), dtype=np.uint8)
    for index in range(frames):
        video[index, height // 4 : height // 2, index + 2 : index + 12] = (230, 60, 40)
    return video


@pytest.mark.parametrize(
    ("height", "width", "upscale", "size"),
    [
        (32, 32, 1, (32, 32)),
        (32, 32, 4, (128, 128)),
        (33, 31, 1, (34, 32)),
        (33, 31, 3, (100, 94)),
        (480, 832, 1, (480, 832)),
    ],
)
def test_a_video_comes_back_as_it_was(
    tmp_path: Path, height: int, width: int, upscale: int, size: tuple[int, int]
) -> None:
    frames = clip(5, height, width)
    write_video(tmp_path / "clip.mp4", frames, fps=8, upscale=upscale)
    found = read_video(tmp_path / "clip.mp4")
    assert found.shape == (5, *size, 3) and found.dtype == np.uint8
    shown = found[:, : height * upscale : upscale, : width * upscale : upscale]
    assert np.abs(shown.astype(int) - frames).mean() < 6  # colour is halved in resolution
    assert np.abs(found[0].astype(int) - found[-1]).max() > 100  # it moves


def test_browsers_can_play_it(tmp_path: Path) -> None:
    write_video(tmp_path / "clip.mp4", clip(), fps=12.5)
    with av.open(str(tmp_path / "clip.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.pix_fmt) == ("h264", "yuv420p")
        assert float(stream.average_rate) == 12.5 and stream.frames == 9


def test_the_same_frames_make_the_same_file(tmp_path: Path) -> None:
    for name in ("a.mp4", "b.mp4"):
        write_video(tmp_path / name, clip(), fps=8)
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()


def test_a_single_frame_is_a_video(tmp_path: Path) -> None:
    write_video(tmp_path / "one.mp4", clip(1), fps=8)
    assert read_video(tmp_path / "one.mp4").shape == (1, 32, 32, 3)


@pytest.mark.parametrize("frames", [clip().astype(np.float32), clip()[0], clip()[..., :1], clip()[:0]])
def test_what_is_no_video_is_not_written(tmp_path: Path, frames: np.ndarray) -> None:
    with pytest.raises(InputError, match="uint8"):
        write_video(tmp_path / "clip.mp4", frames, fps=8)
    assert not (tmp_path / "clip.mp4").exists()


def test_what_is_no_video_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("not a video")
    for name in ("text.mp4", "missing.mp4"):
        with pytest.raises(InputError, match=name):
            read_video(tmp_path / name)


def test_a_contact_sheet_has_a_row_per_prompt_and_a_column_per_title(tmp_path: Path) -> None:
    dark, light = np.zeros((9, 32, 32, 3), np.uint8), np.full((9, 32, 32, 3), 200, np.uint8)
    rows = [SheetRow(label=f"prompt {i}", clips=(dark, light)) for i in range(3)]
    write_contact_sheet(tmp_path / "sheet.png", rows, titles=("before", "after"), frames_shown=4, upscale=1)
    pixels = np.asarray(Image.open(tmp_path / "sheet.png").convert("RGB"))
    assert pixels.shape[0] > 3 * 32 and pixels.shape[1] > 2 * 4 * 32
    assert (pixels == 200).all(axis=-1).sum() >= 3 * 4 * 32 * 32
    with pytest.raises(InputError, match="before, after"):
        write_contact_sheet(tmp_path / "x.png", [SheetRow(label="a", clips=(dark,))], titles=("before", "after"))
