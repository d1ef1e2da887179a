from pathlib import Path

import pytest

from policies.errors import InputError
from policies.rewards.evaluation.bootstrap import Bootstrap
from policies.rewards.evaluation.data_results import evaluate_data
from policies.rewards.evaluation.layouts import PairData, PromptedVideo, VideoData, read_judged_videos
from policies.rewards.evaluation.results import PairMetrics, RankingMetrics, RatingMetrics
from policies.rewards.evaluation.score_file import VideoScores

DIMENSIONS = ("VQ", "MQ", "TA")
BENCHMARK = """\
path_A,path_B,A_model,B_model,prompt,fps_A,fps_B,num_frames_A,num_frames_B,VQ,MQ,TA,Overall
a.mp4,b.mp4,one,two,"a cat, running",8,24,49,120,A,same,B,A
c.mp4,a.mp4,two,one,a dog,24,8,120,49,,invalid,B,same
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "data.csv"
    path.write_text(text)
    return path


def scores(value: float) -> VideoScores:
    values = {"VQ": value, "MQ": -value, "TA": 0.0}
    return VideoScores(raw={name: 10 * number for name, number in values.items()}, normalised=values, overall=value / 3)


def test_the_columns_of_videogen_rewardbench_are_read(tmp_path: Path) -> None:
    data = read_judged_videos(written(tmp_path, BENCHMARK), DIMENSIONS)
    assert isinstance(data, PairData) and data.judged == ("VQ", "MQ", "TA", "Overall")
    assert data.rows[0].labels == {"VQ": 1, "MQ": 0, "TA": -1, "Overall": 1}
    assert data.rows[1].labels == {"VQ": None, "MQ": None, "TA": -1, "Overall": 0}
    assert data.rows[0].prompt_id == "a cat, running"
    assert data.videos() == (
        PromptedVideo("a.mp4", "a cat, running"), PromptedVideo("b.mp4", "a cat, running"),
        PromptedVideo("c.mp4", "a dog"), PromptedVideo("a.mp4", "a dog"),
    )  # fmt: skip


def test_dimensions_that_the_model_lacks_are_left_out(tmp_path: Path) -> None:
    assert read_judged_videos(written(tmp_path, BENCHMARK), ("visual quality",)).judged == ("Overall",)


def test_a_plain_table_needs_four_columns(tmp_path: Path) -> None:
    data = read_judged_videos(written(tmp_path, "path_A,path_B,prompt,label\na.mp4,b.mp4,p,B\n"), DIMENSIONS)
    assert isinstance(data, PairData) and data.judged == ("Overall",)
    assert data.rows[0].labels == {"Overall": -1}


def test_prompts_are_taken_as_they_are_written(tmp_path: Path) -> None:
    text = 'path_A,path_B,prompt,label\n a.mp4 ,b.mp4,"  two boats, ""slowly""\n ", A\n'
    data = read_judged_videos(written(tmp_path, text), DIMENSIONS)
    assert data.videos()[0] == PromptedVideo("a.mp4", '  two boats, "slowly"\n ')
    assert isinstance(data, PairData) and data.rows[0].labels == {"Overall": 1}


def test_videos_have_ratings_and_a_best(tmp_path: Path) -> None:
    text = "path,prompt,prompt_id,best,VQ,rating\na,cat,1,1,4,4.5\nb,cat,1,0,,2\nc,cat,2,1,1,\n"
    data = read_judged_videos(written(tmp_path, text), DIMENSIONS)
    assert isinstance(data, VideoData) and data.has_best and data.judged == ("VQ", "Overall")
    assert [row.ratings for row in data.rows] == [
        {"VQ": 4.0, "Overall": 4.5}, {"VQ": None, "Overall": 2.0}, {"VQ": 1.0, "Overall": None},
    ]  # fmt: skip
    assert [row.is_best for row in data.rows] == [True, False, True]
    assert [row.prompt_id for row in data.rows] == ["1", "1", "2"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("video,prompt\na,p\n", "has neither path_A and path_B"),
        ("path_A,prompt,label\na,p,A\n", "has no column path_B; it needs path_A, path_B, prompt and has"),
        ("path_A,path_B,prompt,winner\na,b,p,A\n", "has no labels; add a column Overall, VQ, MQ, TA or label"),
        ("path_A,path_B,prompt,label\na,b,p,C\n", r":2: label is 'C'"),
        ("path_A,path_B,prompt,label\na,,p,A\n", r":2: path_B is empty"),
        ("path_A,path_B,prompt,label\na,b,,A\n", r":2: prompt is empty"),
        ("path_A,path_B,prompt,prompt_id,label\na,b,p,,A\n", r":2: prompt_id is empty"),
        ("path_A,path_B,prompt,label,Overall\na,b,p,A,A\n", "has both Overall and label"),
        ("path_A,path_B,prompt,label\na,b,p,invalid\n", "no pair is labelled A, B or same"),
        ("path,prompt\na,p\n", "has no judgements; add a column best, Overall, VQ, MQ, TA or rating"),
        ("path,prompt,best\na,p,0\n", "prompt 'p' has 0 videos marked best"),
        ("path,prompt,best\na,p,1\nb,p,1\n", "prompt 'p' has 2 videos marked best"),
        ("path,prompt,VQ\na,p,good\n", r":2: VQ is 'good', which is no number"),
    ],
)
def test_other_tables_are_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_judged_videos(written(tmp_path, text), DIMENSIONS)


def test_pairs_are_judged_by_normalised_scores_in_every_dimension(tmp_path: Path) -> None:
    data = read_judged_videos(written(tmp_path, BENCHMARK), DIMENSIONS)
    found = dict(zip(data.videos(), map(scores, (2.0, 1.0, 5.0, 4.0)), strict=True))
    results = evaluate_data(data, found, Bootstrap(draws=0)).dimensions
    metrics = {name: value for name, (value,) in results.items() if isinstance(value, PairMetrics)}
    assert list(metrics) == ["VQ", "MQ", "TA", "Overall"]
    assert metrics["VQ"].accuracy_without_ties == 1 and metrics["VQ"].pairs_excluded == 1
    assert metrics["MQ"].tie_threshold == 1.0  # of a normalised difference
    assert metrics["TA"].accuracy_without_ties == 0
    assert metrics["Overall"].accuracy_without_ties == 1


def test_a_dimension_without_usable_pairs_is_said(tmp_path: Path) -> None:
    data = read_judged_videos(written(tmp_path, BENCHMARK), DIMENSIONS)
    first = data.videos()[2:]
    found = evaluate_data(data, dict.fromkeys(first, scores(1.0)), Bootstrap(draws=0))
    assert list(found.dimensions) == ["TA", "Overall"]
    assert [note.split(":")[0] for note in found.notes] == ["VQ", "MQ"]
    with pytest.raises(InputError, match=r"VQ: no pair can be used.*Overall: no pair can be used"):
        evaluate_data(data, {}, Bootstrap(draws=0))


def test_every_dimension_can_choose_among_n(tmp_path: Path) -> None:
    data = read_judged_videos(written(tmp_path, "path,prompt,best,VQ\na,p,1,4\nb,p,0,1\nc,p,0,2\n"), DIMENSIONS)
    found = dict(zip(data.videos(), map(scores, (3.0, 1.0, 2.0)), strict=True))
    results = evaluate_data(data, found, Bootstrap(draws=0), recall_ks=(1, 3)).dimensions
    rating, ranking = results["VQ"]
    assert isinstance(rating, RatingMetrics) and rating.spearman == 1
    assert isinstance(ranking, RankingMetrics) and ranking.recall_at == {1: 1.0, 3: 1.0}
    (by_mq,) = results["MQ"]
    assert isinstance(by_mq, RankingMetrics) and by_mq.mrr == pytest.approx(1 / 3)
    assert set(results) == {"VQ", "MQ", "TA", "Overall"}
