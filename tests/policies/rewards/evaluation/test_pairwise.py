import numpy as np
import pytest

from policies.errors import InputError
from policies.rewards.evaluation.pairwise import (
    TieThreshold,
    accuracy_at,
    accuracy_with_ties_of_the_reference,
    accuracy_without_ties,
    best_tie_threshold,
    half_point_accuracy,
)


def array(*values: float) -> np.ndarray:
    return np.array(values)


def test_a_difference_as_large_as_the_threshold_is_a_tie() -> None:
    assert accuracy_at(array(0), array(0.5), 0.5) == 1
    assert accuracy_at(array(0), array(-0.5), 0.5) == 1
    assert accuracy_at(array(0), array(0.5), np.nextafter(0.5, 0)) == 0


def test_one_pair_with_a_preference_needs_no_tie() -> None:
    assert best_tie_threshold(array(1), array(0.7)) == TieThreshold(1.0, None)
    assert best_tie_threshold(array(-1), array(0.7)) == TieThreshold(0.0, 0.7)


def test_ties_alone_have_no_accuracy_without_ties() -> None:
    labels, differences = array(0, 0), array(0.5, -2.0)
    assert accuracy_without_ties(labels, differences) is None
    assert best_tie_threshold(labels, differences) == TieThreshold(1.0, 2.0)


def test_equal_scores_are_wrong_for_a_preference_and_right_for_a_tie() -> None:
    labels, differences = array(1, -1, 0), array(0.0, 0.0, 0.0)
    assert accuracy_without_ties(labels, differences) == 0
    assert best_tie_threshold(labels, differences) == TieThreshold(1 / 3, 0.0)


def test_equal_differences_become_ties_together() -> None:
    """The reference reads 1.0 here: it calls the first a tie and not yet the second."""
    labels, differences = array(0, 1), array(0.5, 0.5)
    assert best_tie_threshold(labels, differences) == TieThreshold(0.5, 0.5)
    assert accuracy_with_ties_of_the_reference(labels.astype(float), differences) == 1


def test_the_reference_never_tries_to_predict_no_tie() -> None:
    labels, differences = array(1, 1), array(0.5, 1.0)
    assert best_tie_threshold(labels, differences) == TieThreshold(1.0, None)
    assert accuracy_with_ties_of_the_reference(labels.astype(float), differences) == 0.5


def test_swapping_first_and_second_changes_nothing() -> None:
    rng = np.random.default_rng(1)
    labels, differences = rng.integers(-1, 2, 50), rng.normal(size=50).round(1)
    assert best_tie_threshold(labels, differences) == best_tie_threshold(-labels, -differences)
    assert accuracy_without_ties(labels, differences) == accuracy_without_ties(-labels, -differences)


def test_half_a_point_apart_is_no_tie() -> None:
    assert half_point_accuracy(array(0, 0, 1), array(0.49, 0.5, 0.01)) == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("labels", "differences"),
    [(array(), array()), (array(1, 0), array(1.0)), (array(2), array(1.0)), (array(1), array(np.nan))],
)
def test_what_is_no_pair_is_refused(labels: np.ndarray, differences: np.ndarray) -> None:
    with pytest.raises(InputError):
        best_tie_threshold(labels, differences)
