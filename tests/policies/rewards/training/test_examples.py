"""Tables of pairs and ratings."""

import math
from pathlib import Path

import pytest

from policies.rewards.training.config import RewardDataConfig, RewardLossConfig
from policies.rewards.training.examples import (
    ExampleTable,
    read_examples,
    split_by_prompt,
    to_learn_from,
    without_missing_files,
)
from tests.policies.rewards.training import toy

NAN = pytest.approx(math.nan, nan_ok=True)
REGRESSION = RewardLossConfig(type="regression", rating_offset=-3)


def read(path: Path, loss: RewardLossConfig | None = None, **data: object) -> ExampleTable:
    return read_examples(path, RewardDataConfig(train=str(path), **data), loss or RewardLossConfig())  # type: ignore[arg-type]


def test_pairs_are_read_with_their_labels_and_invalid_ones_are_counted_apart(tmp_path: Path) -> None:
    table = read(toy.write_pairs(tmp_path))
    first = table.examples[0]
    assert [video.path for video in first.videos] == [tmp_path / "0.mp4", tmp_path / "1.mp4"]
    assert first.prompt == "a dog"
    assert first.labels == (1, 0, NAN)
    assert table.examples[4].prompt == 'a, "bird"'
    assert table.counts["TA"] == {"A": 2, "B": 2, "same": 1, "invalid": 1}
    assert table.rows == 6


def test_videoaligns_other_columns_are_not_looked_at_and_dimensions_may_have_other_names(tmp_path: Path) -> None:
    header = "path_A,fps_A,num_frames_A,path_B,prompt,quality,MQ,TA"
    path = toy.write_csv(tmp_path / "x.csv", header, [("a.mp4", "x", "", "b.mp4", "p", "B", "A", "same")])
    table = read(path, columns={"VQ": "quality"}, videos=str(tmp_path / "videos"))
    assert table.examples[0].labels == (-1, 1, 0)
    assert table.examples[0].videos[1].path == tmp_path / "videos" / "b.mp4"


def test_rows_that_nobody_judged_are_left_out_and_counted(tmp_path: Path) -> None:
    rows = [
        ("0.mp4", "1.mp4", "p", "invalid", "", "invalid"),
        ("0.mp4", "1.mp4", "p", "same", "same", "same"),
        ("0.mp4", "1.mp4", "p", "A", "B", "A"),
    ]
    table = read(toy.write_pairs(tmp_path, rows))
    assert (len(table.examples), table.left_out, table.rows) == (2, 1, 3)
    assert table.counts["VQ"] == {"A": 1, "B": 0, "same": 1, "invalid": 1}


def test_plain_bradley_terry_learns_nothing_from_ties(tmp_path: Path) -> None:
    rows = [("0.mp4", "1.mp4", "p", "same", "same", "same"), ("0.mp4", "1.mp4", "p", "A", "B", "A")]
    examples = read(toy.write_pairs(tmp_path, rows)).examples
    assert to_learn_from(examples, RewardLossConfig(type="bt")) == examples[1:]
    assert to_learn_from(examples, RewardLossConfig()) == examples


def test_a_dimension_with_nothing_to_learn_from_is_an_error(tmp_path: Path) -> None:
    examples = read(toy.write_pairs(tmp_path, [("0.mp4", "1.mp4", "p", "A", "invalid", "A")] * 2)).examples
    with pytest.raises(ValueError, match=r"nothing in MQ with loss\.type btt: 2 invalid"):
        to_learn_from(examples, RewardLossConfig())
    with pytest.raises(ValueError, match="none of its 1 rows has a usable label"):
        read(toy.write_pairs(tmp_path, [("0.mp4", "1.mp4", "p", "", "invalid", "")]))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (("0.mp4", "1.mp4", "p", "A", "better", "B"), r"pairs.csv:2: MQ is 'better'; a label is A, B, same or invalid"),
        (("", "1.mp4", "p", "A", "A", "B"), r"pairs.csv:2: path_A is empty"),
    ],
)
def test_a_bad_field_is_named_with_its_line(tmp_path: Path, row: tuple[str, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read(toy.write_pairs(tmp_path, [row]))


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    path = toy.write_csv(tmp_path / "x.csv", "path_A,path_B,prompt,VQ,MQ", [("a", "b", "p", "A", "A")])
    with pytest.raises(ValueError, match="has no column TA"):
        read(path)


def test_ratings_are_numbers_of_one_video(tmp_path: Path) -> None:
    path = toy.write_csv(
        tmp_path / "x.csv", "path,prompt,VQ,MQ,TA", [("a.mp4", "p", "4", "", "2.5")] * 2 + [("b.mp4", "q", 1, 2, 3)]
    )
    table = read(path, REGRESSION)
    assert len(table.examples[0].videos) == 1
    assert table.examples[0].labels == (1, NAN, -0.5)
    assert table.counts["MQ"] == {"rated": 1, "missing": 2}


def test_mean_opinion_scores_of_pairs_are_ratings_of_both_videos_and_zero_is_none(tmp_path: Path) -> None:
    header = "path_A,path_B,prompt,MOS_A_VQ,MOS_A_MQ,MOS_A_TA,MOS_B_VQ,MOS_B_MQ,MOS_B_TA"
    path = toy.write_csv(tmp_path / "x.csv", header, [("a.mp4", "b.mp4", "p", 4, 0, 3, 1, 2, 5)])
    examples = read(path, REGRESSION).examples
    assert [example.videos[0].path.name for example in examples] == ["a.mp4", "b.mp4"]
    assert [example.labels for example in examples] == [(1, NAN, 0), (-2, -1, 2)]


def test_whole_prompts_are_held_out_and_always_the_same_ones(tmp_path: Path) -> None:
    rows = [("0.mp4", "1.mp4", f"prompt {row % 20}", "A", "A", "A") for row in range(60)]
    examples = read(toy.write_pairs(tmp_path, rows)).examples
    training, heldout = split_by_prompt(examples, 0.1)
    assert len(heldout) == 6 and len(training) == 54
    assert not {e.prompt for e in training} & {e.prompt for e in heldout}
    _, again = split_by_prompt(examples[::-1], 0.1)
    assert {e.prompt for e in again} == {e.prompt for e in heldout}
    assert split_by_prompt(examples, 0.0) == (examples, ())
    assert len({e.prompt for e in split_by_prompt(examples, 0.001)[1]}) == 1


def test_one_prompt_alone_cannot_be_shared_out(tmp_path: Path) -> None:
    examples = read(toy.write_pairs(tmp_path, [("0.mp4", "1.mp4", "p", "A", "A", "A")])).examples
    with pytest.raises(ValueError, match=r"give data.heldout, or data.heldout_share 0"):
        split_by_prompt(examples, 0.1)


def test_missing_files_are_named_or_their_rows_left_out(tmp_path: Path) -> None:
    toy.write_clips(tmp_path, count=3)
    examples = read(toy.write_pairs(tmp_path)).examples
    with pytest.raises(ValueError, match=r"pairs.csv:4: 1 of 4 videos are missing: .*3.mp4; set data.videos"):
        without_missing_files(examples, skip=False)
    assert len(without_missing_files(examples, skip=True)) == 4
