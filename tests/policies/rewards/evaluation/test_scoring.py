"""Real videos, the bundled reward model, and files of scores that outlive a kill."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from policies.config import ShapesRewardConfig
from policies.errors import InputError
from policies.rewards.evaluation.layouts import PromptedVideo
from policies.rewards.evaluation.score_file import ScoreFile, VideoScores
from policies.rewards.evaluation.scoring import ScoredVideos, ScoringConfig, score_videos
from policies.rewards.frames import read_clip
from policies.rewards.model import RewardModel, load_reward_model
from policies.shapes.prompts import TEST_PROMPTS
from policies.shapes.world import FPS, render
from policies.video import write_video

PROMPTS = TEST_PROMPTS[:7]
CONFIG = ScoringConfig(threads=2, videos_per_batch=3)
ONE = VideoScores(raw={"VQ": 0.1}, normalised={"VQ": 1.0}, overall=1 / 3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("videos")
    for index, prompt in enumerate(PROMPTS):
        write_video(path / f"{index}.mp4", render(prompt, np.random.default_rng(index)), fps=FPS)
    return path


@pytest.fixture(scope="module")
def model() -> RewardModel:
    return load_reward_model(ShapesRewardConfig(), device="cpu")


class Counting:
    """A reward model that remembers how many videos it scored, and refuses prompts of one kind in `score`."""

    def __init__(self, model: RewardModel, *, refuses: str = "nothing") -> None:
        self._model, self._refuses = model, refuses
        self.batches: list[int] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def score(self, inputs: Sequence[Any]) -> torch.Tensor:
        if any(self._refuses in clip.prompt for clip in inputs):
            raise InputError("a prompt that cannot be judged")
        self.batches.append(len(inputs))
        return self._model.score(inputs)


def videos() -> list[PromptedVideo]:
    return [PromptedVideo(f"{index}.mp4", prompt) for index, prompt in enumerate(PROMPTS)]


def scored(
    folder: Path, model: Any, file: Path, some: Sequence[PromptedVideo] | None = None, config: ScoringConfig = CONFIG
) -> ScoredVideos:
    with ScoreFile(file, {"revision": model.revision}) as scores:
        return score_videos(videos() if some is None else some, folder, model, scores, config=config)


def test_every_video_gets_what_it_gets_alone(folder: Path, model: RewardModel, tmp_path: Path) -> None:
    counting = Counting(model)
    found = scored(folder, counting, tmp_path / "scores.jsonl")
    assert counting.batches == [3, 3, 1] and not found.failures and list(found.scores) == videos()
    for video, values in found.scores.items():
        clip = read_clip(folder / video.path)
        raw = model.score([model.prepare(clip.frames_FHWC, video.prompt, clip.fps)])[0].tolist()
        assert list(values.raw.values()) == pytest.approx(raw, rel=1e-5)
        assert values.overall == model.overall(values.normalised)


def test_a_second_run_scores_nothing_and_says_the_same(folder: Path, model: RewardModel, tmp_path: Path) -> None:
    first = scored(folder, model, tmp_path / "scores.jsonl")
    counting = Counting(model)
    again = scored(folder, counting, tmp_path / "scores.jsonl")
    assert counting.batches == [] and again.reused == 7 and again.scores == first.scores


@pytest.mark.parametrize(("lines_left", "reused"), [(0, 0), (2, 0), (3, 3), (4, 3), (6, 6)])
def test_a_killed_run_goes_on_and_equals_an_unbroken_one(
    lines_left: int, reused: int, folder: Path, model: RewardModel, tmp_path: Path
) -> None:
    """Also behind a torn line, and to the last bit: the batches are the same."""
    file = tmp_path / "scores.jsonl"
    whole = scored(folder, model, file)
    data = file.read_bytes()
    lines = data.splitlines(keepends=True)
    file.write_bytes(b"".join(lines[:lines_left]) + lines[lines_left][:50])
    found = scored(folder, model, file)
    assert found.reused == reused and found.scores == whole.scores
    assert file.read_bytes() == data


def test_a_damaged_line_is_scored_again(folder: Path, model: RewardModel, tmp_path: Path) -> None:
    file = tmp_path / "scores.jsonl"
    scored(folder, model, file, videos()[:3])
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(
        lines[0] + b"\xff{}\n[1]\n" + lines[1].replace(b'"overall": ', b'"overall": NaN, "x": ') + lines[2]
    )
    counting = Counting(model)
    assert scored(folder, counting, file, videos()[:3]).reused == 2
    assert counting.batches == [1]


def test_another_model_or_prompt_or_video_is_scored_apart(folder: Path, model: RewardModel, tmp_path: Path) -> None:
    file, place = tmp_path / "scores.jsonl", tmp_path / "videos"
    shutil.copytree(folder, place)
    one = [PromptedVideo("0.mp4", PROMPTS[0])]
    assert scored(place, model, file, one).reused == 0
    assert scored(place, model, file, [PromptedVideo("0.mp4", PROMPTS[1])]).reused == 0
    other = Counting(model)
    other.revision = "other"
    assert scored(place, other, file, one).reused == 0
    shutil.copy(place / "1.mp4", place / "0.mp4")
    assert scored(place, model, file, one).reused == 0
    assert scored(place, model, file, [PromptedVideo("1.mp4", PROMPTS[0])]).reused == 1  # the same bytes


def test_bad_videos_are_named_once_and_stop_nothing(folder: Path, model: RewardModel, tmp_path: Path) -> None:
    place = tmp_path / "videos"
    shutil.copytree(folder, place)
    (place / "text.mp4").write_text("no video")
    (place / "torn.mp4").write_bytes((place / "0.mp4").read_bytes()[:700])
    write_video(place / "small.mp4", np.zeros((9, 16, 16, 3), np.uint8), fps=8)
    bad = ["missing.mp4", "text.mp4", "torn.mp4", "small.mp4", "../outside.mp4", "/etc/hostname", ".", "nul\0.mp4"]
    mixed = [item for video, name in zip(videos(), [*bad[:6], bad[6]], strict=True) for item in
             (video, PromptedVideo(name, PROMPTS[0]))] + [PromptedVideo(bad[7], PROMPTS[0])]  # fmt: skip
    mixed += [PromptedVideo("text.mp4", PROMPTS[1]), PromptedVideo("6.mp4", "a cat on a skateboard")]
    said: list[int] = []
    with ScoreFile(tmp_path / "scores.jsonl", {}) as file:
        found = score_videos(
            mixed, place, model, file, config=CONFIG, on_progress=lambda scored: said.append(scored.done)
        )
    assert list(found.scores) == videos()
    assert set(found.failures) == {*bad, "6.mp4"} and found.failed == 10
    assert said == list(range(1, len(mixed) + 1))
    assert "no such file" in found.failures["missing.mp4"] and "is not inside" in found.failures["../outside.mp4"]


def test_a_batch_that_is_refused_is_tried_one_by_one(folder: Path, model: RewardModel, tmp_path: Path) -> None:
    found = scored(folder, Counting(model, refuses=PROMPTS[1]), tmp_path / "scores.jsonl")
    assert list(found.failures) == ["1.mp4"] and len(found.scores) == 6


def test_scores_that_are_not_finite_are_no_scores(folder: Path, model: RewardModel, tmp_path: Path) -> None:
    class Broken(Counting):
        def score(self, inputs: Sequence[Any]) -> torch.Tensor:
            return self._model.score(inputs) * float("nan")

    found = scored(folder, Broken(model), tmp_path / "scores.jsonl")
    assert not found.scores and len(found.failures) == 7 and "not finite" in found.failures["0.mp4"]
    assert (tmp_path / "scores.jsonl").read_bytes() == b""


def test_a_bug_stops_the_run_and_keeps_what_was_scored(folder: Path, model: RewardModel, tmp_path: Path) -> None:
    class Failing(Counting):
        def score(self, inputs: Sequence[Any]) -> torch.Tensor:
            if self.batches:
                raise RuntimeError("out of memory")
            return super().score(inputs)

    with pytest.raises(RuntimeError, match="out of memory"):
        scored(folder, Failing(model), tmp_path / "scores.jsonl")
    assert scored(folder, model, tmp_path / "scores.jsonl").reused == 3


def test_no_more_videos_wait_than_agreed(folder: Path, model: RewardModel, tmp_path: Path) -> None:
    prepared = 0

    class Watching(Counting):
        def prepare(self, *arguments: Any) -> Any:
            nonlocal prepared
            prepared += 1
            return self._model.prepare(*arguments)

        def score(self, inputs: Sequence[Any]) -> torch.Tensor:
            self.batches.append(len(inputs))
            assert prepared <= sum(self.batches) + CONFIG.ahead
            return self._model.score(inputs)

    many = [PromptedVideo("0.mp4", prompt) for prompt in TEST_PROMPTS]
    watching = Watching(model)
    scored(folder, watching, tmp_path / "scores.jsonl", many)
    assert sum(watching.batches) == len(many) > 3 * CONFIG.ahead


def test_only_one_process_writes_a_file(tmp_path: Path) -> None:
    path = tmp_path / "new" / "scores.jsonl"
    with ScoreFile(path, {}) as file:
        file.append([(file.key("aa", "p"), PromptedVideo("a.mp4", "p"), ONE)])
        with pytest.raises(InputError, match="another evaluation is writing it"):
            ScoreFile(path, {})
    with ScoreFile(path, {}) as file:
        assert file.get(file.key("aa", "p")) == ONE
    with pytest.raises(InputError, match="cannot be written"):
        ScoreFile(path / "below" / "scores.jsonl", {})


def test_a_file_of_something_else_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "scores.jsonl"
    path.write_text('{"mine": 1}\n')
    with pytest.raises(InputError, match="is no file of scores"):
        ScoreFile(path, {})
    assert path.read_text() == '{"mine": 1}\n'


def test_threads_and_batches_are_at_least_one() -> None:
    with pytest.raises(InputError, match="give 1 or more"):
        ScoringConfig(threads=0)
