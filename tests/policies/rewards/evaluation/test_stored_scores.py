"""Tables of stored scores, and what is made of them."""

from pathlib import Path

import pytest

from policies.errors import InputError
from policies.rewards.evaluation.bootstrap import Bootstrap
from policies.rewards.evaluation.judgements import JudgedPair, JudgedVideo
from policies.rewards.evaluation.results import as_json, evaluate_pairs, evaluate_ranking, evaluate_ratings
from policies.rewards.evaluation.stored_scores import read_stored_scores

HEADER = "prompt_id,score_A,score_B,label\n"
NO_DRAWS = Bootstrap(draws=0)


def written(folder: Path, text: str | bytes) -> Path:
    path = folder / "scores.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def pair(label: int | None, score_A: float | None, score_B: float | None, prompt_id: str = "p") -> JudgedPair:
    return JudgedPair(prompt_id=prompt_id, label=label, score_A=score_A, score_B=score_B)


def test_pairs_are_read_with_missing_scores_and_every_label(tmp_path: Path) -> None:
    text = 'label,score_B,note,score_A,prompt_id\nA,1,,2,p1\nB,,x,1e-3,p1\nsame,-4.5,x,,"p,2"\n\n'
    text += "invalid, 1 ,x,1,p3\n,1,x,1,p3\n"
    assert read_stored_scores(written(tmp_path, text)) == [
        pair(1, 2.0, 1.0, "p1"), pair(-1, 0.001, None, "p1"), pair(0, None, -4.5, "p,2"), pair(None, 1.0, 1.0, "p3"),
        pair(None, 1.0, 1.0, "p3"),
    ]  # fmt: skip


@pytest.mark.parametrize("text", [f"\ufeff{HEADER}p,1,2,A\n", f"{HEADER}p,1,2,A".replace("\n", "\r\n")])
def test_files_of_spreadsheets_are_read(tmp_path: Path, text: str) -> None:
    assert read_stored_scores(written(tmp_path, text)) == [pair(1, 1.0, 2.0)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no rows, it is empty"),
        (HEADER, "holds no rows below its header"),
        (HEADER + "p,1,2,A\np,1,2,C\n", r":3: label is 'C'; a label is A, B, same or invalid"),
        (HEADER + "p,1,2,a\n", r":2: label is 'a'"),
        (HEADER + "p,nan,2,A\n", r":2: score_A is 'nan', which is no finite number"),
        (HEADER + "p,1,-Infinity,A\n", r":2: score_B is '-Infinity', which is no finite number"),
        (HEADER + "p,1,1e999,A\n", r":2: score_B is '1e999'"),
        (HEADER + "p,1,1_0,A\n", r":2: score_B is '1_0'"),
        (HEADER + "p,1,None,A\n", r":2: score_B is 'None', which is no number; leave it empty"),
        (HEADER + 'p,1,"2\n",A\np,1,x,A\n', r":4: score_B is 'x'"),
        (HEADER + ",1,2,A\n", r":2: prompt_id is empty"),
        (HEADER + "p,1,2\n", r":2: has 3 fields and the header 4"),
        (HEADER + "p,1,5,2,A\n", r":2: has 5 fields and the header 4"),
        (HEADER + 'p,1,"2"x,A\n', r":2: is no CSV"),
        ("prompt_id,score_A,label\np,1,A\n", "has no column score_B; it needs prompt_id, score_A, score_B, label"),
        ("prompt_id,score_A,score_A,label\np,1,1,A\n", "has the column 'score_A' more than once"),
        ((HEADER + "p,1,2,A\n").replace(",", ";"), ":1: its columns are separated by semicolons; save it with commas"),
        (HEADER.encode() + b"p\xff,1,2,A\n", r":2: not UTF-8 \(byte 0xff\)"),
        ("prompt_id,score\np,1\n", "neither best nor rating"),
        ("prompt_id,score,best\np,1,yes\n", r":2: best is 'yes'; write 1"),
    ],
)
def test_what_cannot_be_read_is_one_clear_error(tmp_path: Path, text: str | bytes, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        read_stored_scores(written(tmp_path, text))
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        read_stored_scores(tmp_path / "missing.csv")
    with pytest.raises(InputError, match="is a folder"):
        read_stored_scores(tmp_path)


def test_excluded_pairs_are_counted_by_reason() -> None:
    metrics = evaluate_pairs(
        [pair(1, 2.0, 1.0), pair(None, 1.0, 1.0), pair(None, None, 1.0), pair(-1, None, 1.0), pair(0, 1.0, 1.0, "q")],
        NO_DRAWS,
    )
    assert (metrics.pairs_used, metrics.pairs_excluded) == (2, 3)
    assert (metrics.pairs_with_invalid_label, metrics.pairs_with_missing_score) == (2, 1)
    assert (metrics.pairs_used_labelled_same, metrics.prompts) == (1, 2)
    assert metrics.accuracy_with_ties == 1 and metrics.tie_threshold == 0
    assert metrics.reference_procedure.pairs == 3
    assert metrics.reference_procedure.accuracy_half_point_rule == 1


def test_no_usable_pair_is_refused_with_the_reasons() -> None:
    with pytest.raises(InputError, match="of 2, 1 have no label A, B or same, and 1 lack a score"):
        evaluate_pairs([pair(None, 1.0, 1.0), pair(1, None, 1.0)], NO_DRAWS)


def test_scores_too_far_apart_for_a_number_are_refused() -> None:
    with pytest.raises(InputError, match="prompt 'p': scores 1e\\+308 and -1e\\+308 are too far apart"):
        evaluate_pairs([pair(1, 1e308, -1e308)], NO_DRAWS)


def test_intervals_hold_the_value() -> None:
    pairs = [pair((1, -1, 1, 0)[index % 4], float(index % 7), 2.0, str(index)) for index in range(100)]
    metrics = evaluate_pairs(pairs, Bootstrap())
    low, high = metrics.accuracy_with_ties_ci95 or (1, 0)
    assert low < metrics.accuracy_with_ties < high
    low, high = metrics.accuracy_without_ties_ci95 or (1, 0)
    assert metrics.accuracy_without_ties is not None and low < metrics.accuracy_without_ties < high


def test_videos_are_ranked_and_correlated(tmp_path: Path) -> None:
    text = "prompt_id,score,best,rating\np,1,0,1\np,2,1,5\nq,3,1,\nq,4,0,4\nr,,1,2\nr,5,0,2\n"
    videos = read_stored_scores(written(tmp_path, text))
    assert all(isinstance(video, JudgedVideo) for video in videos)
    ranking = as_json(evaluate_ranking(videos, Bootstrap()))  # type: ignore[arg-type]
    assert (ranking["mrr"], ranking["recall_at_1"], ranking["recall_at_2"]) == (0.75, 0.5, 1.0)
    assert (ranking["prompts_used"], ranking["prompts_excluded"]) == (2, 1)
    assert ranking["mrr_ci95"] == (0.5, 1.0)
    ratings = evaluate_ratings(videos, Bootstrap(draws=20))  # type: ignore[arg-type]
    assert (ratings.videos_used, ratings.videos_excluded) == (4, 2)
    assert ratings.spearman == pytest.approx(0.2)


def test_a_prompt_without_one_best_video_is_refused() -> None:
    videos = [JudgedVideo(prompt_id="p", score=1.0, is_best=True)] * 2
    with pytest.raises(InputError, match="prompt 'p': 2 of 2 videos are marked best"):
        evaluate_ranking(videos, NO_DRAWS)
    with pytest.raises(InputError, match="each of 1 has a video without a score"):
        evaluate_ranking([JudgedVideo(prompt_id="p", score=None, is_best=True)], NO_DRAWS)
    with pytest.raises(InputError, match="none of 1"):
        evaluate_ratings([JudgedVideo(prompt_id="p", score=None, rating=1.0)], NO_DRAWS)
