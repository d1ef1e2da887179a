"""Which rows make a step, and their inputs."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from policies.rewards.frames import Clip, read_clip
from policies.rewards.training import videos
from policies.rewards.training.examples import Example, PromptedVideo
from policies.rewards.training.videos import ClipCache, TrainingSteps, VideoSource
from tests.policies.rewards.training import toy


def prepared(frames: np.ndarray, prompt: str, fps: float) -> tuple[int, str]:
    return len(frames), prompt


def source(*, skip: bool = False, cache: int = 0) -> VideoSource:
    return VideoSource(prepare=prepared, cache=ClipCache(cache), workers=2, skip_unreadable=skip)


def steps_of(folder: Path, count: int, *, batch: int = 4, micro: int = 3, **options: Any) -> TrainingSteps:
    examples = [
        Example(
            videos=(PromptedVideo(folder / "0.mp4", f"p{n}"), PromptedVideo(folder / "1.mp4", f"p{n}")),
            labels=(1.0, -1.0, float(n)),
            place=f"pairs.csv:{n + 2}",
        )
        for n in range(count)
    ]
    return TrainingSteps(examples=examples, source=source(**options), batch_size=batch, micro_batch_size=micro, seed=1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    toy.write_clips(tmp_path, count=2)
    return tmp_path


def test_an_epoch_holds_every_example_once_and_the_next_in_another_order(folder: Path) -> None:
    steps = steps_of(folder, 12, batch=4)
    epochs = [[row for step in range(first, first + 3) for row in steps.rows(step)] for first in (0, 3)]
    assert [sorted(rows) for rows in epochs] == [list(range(12))] * 2
    assert epochs[0] != epochs[1]


def test_a_step_is_the_same_wherever_the_training_starts(folder: Path) -> None:
    steps = steps_of(folder, 7, batch=4)
    whole = [(step.labels.tolist(), [part.inputs for part in step.micro_batches]) for step in steps.between(0, 5)]
    late = [(step.labels.tolist(), [part.inputs for part in step.micro_batches]) for step in steps.between(3, 5)]
    assert late == whole[3:]


def test_micro_batches_hold_first_videos_then_second_ones_with_their_labels(folder: Path) -> None:
    steps = steps_of(folder, 8, batch=4, micro=3)
    (step,) = steps.between(0, 1)
    parts = list(step.micro_batches)
    assert [len(part.inputs) for part in parts] == [6, 2]
    assert [frames for frames, _ in parts[0].inputs] == [4, 4, 4, 5, 5, 5]
    assert [f"p{int(labels[2])}" for labels in parts[0].labels] == [prompt for _, prompt in parts[0].inputs[:3]]
    assert step.labels.tolist() == [labels for part in parts for labels in part.labels.tolist()]


def test_an_unreadable_video_is_an_error_that_names_file_and_row(folder: Path) -> None:
    (folder / "1.mp4").write_bytes((folder / "1.mp4").read_bytes()[:600])
    (step,) = steps_of(folder, 2, batch=2).between(0, 1)
    with pytest.raises(ValueError, match=r"pairs.csv:\d: .*1\.mp4"):
        list(step.micro_batches)


def test_pairs_with_an_unreadable_video_can_be_left_out_and_are_counted(folder: Path) -> None:
    (folder / "1.mp4").write_bytes(b"no video")
    steps = steps_of(folder, 4, batch=4, micro=2, skip=True)
    (step,) = steps.between(0, 1)
    assert list(step.micro_batches) == []
    assert len(step.labels) == 4  # they still count in the mean
    assert list(steps.source.unreadable) == [folder / "1.mp4"]


def test_clips_are_kept_within_the_capacity_and_the_oldest_goes_first(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []

    def reading(path: Path) -> Clip:
        read.append(path.name)
        return read_clip(path)

    monkeypatch.setattr(videos, "read_clip", reading)
    cache = ClipCache(5 * 32 * 32 * 3)  # the larger clip, or the smaller one
    for name in ("0.mp4", "0.mp4", "1.mp4", "1.mp4", "0.mp4"):
        cache.read(folder / name)
    assert read == ["0.mp4", "1.mp4", "0.mp4"]
