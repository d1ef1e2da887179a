from pathlib import Path

import numpy as np
import pytest

from policies.errors import InputError
from policies.rewards.frames import read_clip
from policies.shapes.clips import CLIPS, FOLDER, clip_path, write_clips
from policies.shapes.world import FPS, NUM_FRAMES, SIZE


def test_the_bundled_clips_are_what_the_command_renders(tmp_path: Path) -> None:
    write_clips(tmp_path)
    assert sorted(path.stem for path in FOLDER.iterdir()) == sorted(CLIPS)
    for name in CLIPS:
        bundled, rendered = read_clip(clip_path(f"shapes:{name}")), read_clip(tmp_path / f"{name}.mp4")
        assert bundled.frames_FHWC.shape == (NUM_FRAMES, SIZE, SIZE, 3) and bundled.fps == FPS
        assert np.abs(bundled.frames_FHWC.astype(int) - rendered.frames_FHWC).mean() < 1


def test_other_names_are_paths_and_unknown_clips_are_listed() -> None:
    assert clip_path("some/clip.mp4") == Path("some/clip.mp4")
    with pytest.raises(InputError, match="there is no bundled clip shapes:dog; there are shapes:circle, shapes:square"):
        clip_path("shapes:dog")
