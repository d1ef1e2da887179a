"""Reading clips."""

from pathlib import Path

import av
import pytest

from policies.errors import InputError
from policies.rewards.frames import read_clip
from tests.policies.rewards import goldens


@pytest.mark.parametrize("name", goldens.CLIPS)
def test_frames_and_rate_are_the_references(name: str) -> None:
    clip, expected = goldens.clip(name), goldens.expected("videoreward")["clips"][name]
    assert len(clip.frames_FHWC) == expected["file"]["frames_decoded"]
    assert clip.fps == pytest.approx(expected["file"]["fps_float"], rel=1e-7)
    sampled = clip.frames_FHWC[expected["sampling"]["indices"]]
    assert goldens.sha256(sampled) == expected["stages_and_scores"]["frames"]["sha256"]


def damaged(tmp_path: Path, content: bytes) -> Path:
    path = tmp_path / "clip.mp4"
    path.write_bytes(content)
    return path


def test_a_file_that_lost_its_end_says_how_much(tmp_path: Path) -> None:
    content = (goldens.FOLDER / "inputs" / "clip_a.mp4").read_bytes()
    with pytest.raises(InputError, match=r"clip.mp4 is truncated: 182 bytes of its frames are missing"):
        read_clip(damaged(tmp_path, content[:-182]))


def test_a_file_that_lost_its_index_is_refused(tmp_path: Path) -> None:
    content = (goldens.FOLDER / "inputs" / "clip_a.mp4").read_bytes()
    with pytest.raises(InputError, match=r"clip.mp4 cannot be read as a video: "):
        read_clip(damaged(tmp_path, content[:600]))


def test_a_video_without_frames_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "empty.mp4"
    with av.open(str(path), mode="w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=8)
        stream.height = stream.width = 32
        stream.pix_fmt = "yuv420p"
    with pytest.raises(InputError, match=r"empty.mp4 (holds no|cannot be read)"):
        read_clip(path)


@pytest.mark.parametrize("content", [b"", b"not a video at all", b"#EXTM3U\n#EXTINF:1,\n/etc/passwd\n"])
def test_what_is_no_video_is_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(InputError, match=r"clip.mp4 cannot be read as a video: "):
        read_clip(damaged(tmp_path, content))


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none.mp4 cannot be read as a video: No such file"):
        read_clip(tmp_path / "none.mp4")
