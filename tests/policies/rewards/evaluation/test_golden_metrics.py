"""Every case of tests/goldens/metrics.json, made with the reference programs and by enumeration."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from policies.rewards.evaluation.bootstrap import Bootstrap
from policies.rewards.evaluation.correlation import spearman
from policies.rewards.evaluation.judgements import JudgedPair, JudgedVideo
from policies.rewards.evaluation.pairwise import (
    accuracy_at,
    accuracy_with_ties_of_the_reference,
    accuracy_without_ties,
    best_tie_threshold,
    half_point_accuracy,
    is_agreed,
)
from policies.rewards.evaluation.ranking import rank_of_best
from policies.rewards.evaluation.results import evaluate_pairs, evaluate_ranking, evaluate_ratings

GOLDEN = json.loads((Path(__file__).parents[3] / "goldens" / "metrics.json").read_text())
LABELS = {"A": 1, "B": -1, "same": 0, "": None, None: None}
NO_DRAWS = Bootstrap(draws=0)


def close(value: float | None) -> Any:
    return None if value is None else pytest.approx(value, rel=0, abs=1e-12)


def check_ties(expected: dict[str, Any], labels: np.ndarray, differences: np.ndarray) -> None:
    best = best_tie_threshold(labels, differences)
    assert best.accuracy == close(expected["exact_optimum"])
    threshold = expected["exact_optimum_threshold"]
    assert best.threshold == (None if isinstance(threshold, str) else threshold)
    assert accuracy_at(labels, differences, best.threshold) == best.accuracy
    assert accuracy_at(labels, differences, None) == close(expected["no_tie_predicted"])
    observed = {size: accuracy_at(labels, differences, size) for size in sorted(set(map(abs, differences.tolist())))}
    smallest = next(size for size, accuracy in observed.items() if accuracy == max(observed.values()))
    assert observed[smallest] == close(expected["best_over_observed_thresholds"])
    assert smallest == expected["smallest_best_observed_threshold"]
    for fixed in expected["at_fixed_thresholds"]:
        assert accuracy_at(labels, differences, fixed["threshold"]) == close(fixed["accuracy"])
    reference = accuracy_with_ties_of_the_reference(labels.astype(float), differences)
    assert reference == close(expected["reference_procedure"])


@pytest.mark.parametrize("case", GOLDEN["pair_cases"], ids=lambda case: case["name"])
def test_pair_cases(case: dict[str, Any]) -> None:
    labels, differences = np.array(case["human"]), np.array(case["score_difference"])
    check_ties(case["accuracy_with_ties"], labels, differences)
    assert accuracy_without_ties(labels, differences) == close(case["accuracy_without_ties"])


@pytest.mark.parametrize("dimension", GOLDEN["pair_table"]["expected"])
def test_pair_table(dimension: str) -> None:
    table = GOLDEN["pair_table"]
    expected = table["expected"][dimension]
    scores = table["video_scores"]
    pairs = [
        JudgedPair(
            prompt_id="p", label=LABELS[row[dimension]],
            score_A=scores[row["path_A"]][dimension], score_B=scores[row["path_B"]][dimension],
        )
        for row in table["rows"]
    ]  # fmt: skip
    metrics = evaluate_pairs(pairs, NO_DRAWS)
    assert (metrics.pairs_used, metrics.pairs_excluded) == (expected["n"], expected["rows_excluded"])
    assert metrics.accuracy_without_ties == close(expected["accuracy_without_ties"])
    ties = expected["accuracy_with_ties"]
    assert metrics.accuracy_with_ties == close(ties["exact_optimum"])
    assert metrics.accuracy_with_ties_reference_procedure == close(ties["reference_procedure"])
    kept = expected["reference_when_rows_with_unusable_label_are_kept"]
    assert metrics.reference_procedure.pairs == kept["rows"]
    assert metrics.reference_procedure.accuracy_with_ties == close(kept["with_ties"])
    assert metrics.reference_procedure.accuracy_without_ties == close(kept["without_ties"])
    used = [pair for pair in pairs if pair.label is not None and None not in (pair.score_A, pair.score_B)]
    check_ties(ties, np.array([pair.label for pair in used]), np.array([pair.score_A - pair.score_B for pair in used]))  # type: ignore[operator]


@pytest.mark.parametrize("which", ["all_rows", "ties_excluded"])
def test_half_point_tie_rule(which: str) -> None:
    case = GOLDEN["half_point_tie_rule"]
    expected = case[which]
    rows = [
        row for row in case["rows"] if which == "all_rows" or row["left_preference"] != row["right_preference"]
    ]  # fmt: skip
    assert len(rows) == expected["rows"]
    labels = np.array([int(np.sign(row["left_preference"] - row["right_preference"])) for row in rows])
    left, right = np.array([row["left"] for row in rows]), np.array([row["right"] for row in rows])
    # the mean as the reference takes it: a sum of five over five
    means = np.array([sum(a) / 5 - sum(b) / 5 for a, b in zip(left.tolist(), right.tolist(), strict=True)])
    assert half_point_accuracy(labels, means) == close(expected["acc"])
    aspects = [name for name in expected if name not in ("acc", "rows")]
    for column, name in enumerate(aspects):
        assert half_point_accuracy(labels, left[:, column] - right[:, column]) == close(expected[name]), name


def test_spearman() -> None:
    case = GOLDEN["spearman"]
    people, model = np.array(case["reference_scores"], float), np.array(case["model_scores"])
    for column, expected in enumerate(case["rho_by_average_ranks"]):
        rho = spearman(model[:, column], people[:, column])
        assert rho == close(expected)
        videos = [
            JudgedVideo(prompt_id=str(row), score=model[row, column], rating=people[row, column])
            for row in range(len(model))
        ]
        assert evaluate_ratings(videos, NO_DRAWS).spearman == rho


def test_ranking() -> None:
    case = GOLDEN["ranking"]
    expected = case["expected"]
    assert [rank_of_best(group["scores"], group["human_best"]) for group in case["groups"]] == expected["ranks"]
    videos = [
        JudgedVideo(prompt_id=group["prompt"], score=score, is_best=index == group["human_best"])
        for group in case["groups"]
        for index, score in enumerate(group["scores"])
    ]
    metrics = evaluate_ranking(videos, NO_DRAWS)
    assert metrics.mrr == close(expected["mrr"])
    assert [metrics.recall_at[k] for k in (1, 2, 4)] == [close(expected[f"recall_at_{k}"]) for k in (1, 2, 4)]
    assert (metrics.prompts_used, metrics.prompts_excluded) == (len(case["groups"]), 0)


def test_the_optimum_is_that_of_an_exhaustive_search() -> None:
    rng = np.random.default_rng(0)
    for trial in range(200):
        size = int(rng.integers(1, 30))
        labels = rng.integers(-1, 2, size)
        differences = rng.integers(-4, 5, size) / 2 if trial % 2 else rng.normal(size=size)
        best = best_tie_threshold(labels, differences)
        tried = [accuracy_at(labels, differences, threshold) for threshold in (None, *np.abs(differences))]
        assert best.accuracy == max(tried) and math.isclose(
            is_agreed(labels, differences, best.threshold).mean(), best.accuracy
        )
