"""Losses as sums and counts: the same however a batch is cut."""

import math

import pytest
import torch
from torch import Tensor

from policies.rewards.training.losses import Loss, PairLoss, RegressionLoss

NAN = float("nan")
LABELS = torch.tensor([[1.0, 0.0, NAN], [-1.0, 1.0, 1.0], [0.0, 0.0, -1.0], [NAN, NAN, 1.0]])
SCORES = torch.randn(8, 3, generator=torch.Generator().manual_seed(0))


def pairs_of(scores: Tensor, rows: slice) -> Tensor:
    first, second = scores.chunk(2)
    return torch.cat([first[rows], second[rows]])


@pytest.mark.parametrize("loss", [PairLoss(), PairLoss(theta=1.0), PairLoss(theta=3.0, shrinkage=0.1)])
def test_parts_of_a_batch_of_pairs_add_up_to_the_whole(loss: PairLoss) -> None:
    parts = sum(float(loss.total(pairs_of(SCORES, rows), LABELS[rows])) for rows in (slice(0, 1), slice(1, 4)))
    assert parts == pytest.approx(float(loss.total(SCORES, LABELS)), rel=1e-6)


def test_invalid_entries_count_in_the_mean_as_in_videoaligns_code_unless_left_out() -> None:
    assert PairLoss().entries(LABELS) == 12
    assert PairLoss(invalid="left_out").entries(LABELS) == 9
    assert PairLoss(theta=1.0, invalid="left_out").entries(LABELS) == 6  # without ties


def test_shrinkage_pulls_scores_to_zero_where_pairs_say_nothing() -> None:
    scores = torch.tensor([[2.0], [2.0]], requires_grad=True)
    total = PairLoss(shrinkage=0.5).total(scores, torch.tensor([[0.0]]))
    (gradient,) = torch.autograd.grad(total, scores)
    assert gradient.flatten().tolist() == pytest.approx([1.0, 1.0])  # 0.5 * 2, the tie itself is at its optimum


def test_regression_is_the_squared_error_of_rated_entries() -> None:
    loss: Loss = RegressionLoss()
    scores, ratings = torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([[2.0, NAN], [3.0, 1.0]])
    assert float(loss.total(scores, ratings)) == pytest.approx(1.0 + 9.0)
    assert loss.entries(ratings) == 3
    assert RegressionLoss(invalid="in_mean").entries(ratings) == 4


def test_an_unrated_entry_has_no_gradient() -> None:
    scores = torch.zeros(1, 2, requires_grad=True)
    (gradient,) = torch.autograd.grad(RegressionLoss().total(scores, torch.tensor([[NAN, 3.0]])), scores)
    assert gradient.tolist() == [[0.0, -6.0]]


def test_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match="theta"):
        PairLoss(theta=0.5)
    with pytest.raises(ValueError, match="4 pairs need 8 scores, got 4"):
        PairLoss().total(torch.zeros(4, 3), LABELS)
    with pytest.raises(ValueError, match="differ in shape"):
        RegressionLoss().total(torch.zeros(2, 3), torch.zeros(2, 1))


def test_equal_scores_cost_the_tie_of_theta_five() -> None:
    total = PairLoss().total(torch.zeros(2, 1), torch.tensor([[0.0]]))
    assert float(total) == pytest.approx(-math.log(24 / 36))
