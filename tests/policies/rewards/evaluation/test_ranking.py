import numpy as np
import pytest

from policies.errors import InputError
from policies.rewards.evaluation.correlation import average_ranks, spearman
from policies.rewards.evaluation.ranking import mean_reciprocal_rank, rank_of_best, recall_at


def test_a_tie_takes_the_worst_rank() -> None:
    assert rank_of_best([0.5, 0.5, 0.5], 0) == 3
    assert rank_of_best([0.9, 0.5, 0.1], 1) == 2


def test_more_videos_to_recall_than_there_are_is_always_found() -> None:
    assert recall_at(4, [rank_of_best([0.1, 0.9], 0)]) == 1
    assert mean_reciprocal_rank([1, 2]) == 0.75


@pytest.mark.parametrize(("scores", "best"), [([], 0), ([1.0], 1), ([1.0, float("nan")], 0), ([1.0], -1)])
def test_a_best_that_is_not_there_is_refused(scores: list[float], best: int) -> None:
    with pytest.raises(InputError, match="must be an index"):
        rank_of_best(scores, best)


def test_no_prompts_are_refused() -> None:
    with pytest.raises(InputError, match="no prompt"):
        recall_at(1, [])


def test_equal_values_share_the_mean_of_their_ranks() -> None:
    assert average_ranks(np.array([3.0, 1.0, 3.0, 2.0])).tolist() == [3.5, 1.0, 3.5, 2.0]


def test_rho_sees_order_only() -> None:
    values = np.array([0.1, 5.0, -2.0, 0.3])
    assert spearman(values, np.exp(values)) == 1.0
    assert spearman(values, -values) == -1.0
    assert spearman(values, np.zeros(4)) is None
    assert spearman(values[:1], values[:1]) is None


@pytest.mark.parametrize("other", [np.zeros(3), np.array([0.0, 1.0, 2.0, np.inf])])
def test_lists_that_do_not_fit_are_refused(other: np.ndarray) -> None:
    with pytest.raises(InputError, match="scores"):
        spearman(np.zeros(4), other)
