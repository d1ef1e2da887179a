"""Bradley-Terry with and without ties."""

import math
from functools import partial

import pytest
import torch

from policies.rewards.bradley_terry import bradley_terry_losses, bradley_terry_ties_losses, pair_accuracy

NAN = float("nan")
BOTH = (bradley_terry_losses, partial(bradley_terry_ties_losses, theta=3.0))


def probability(difference: float, label: float, theta: float) -> float:
    first, second = torch.tensor([[difference]]), torch.tensor([[0.0]])
    return math.exp(-float(bradley_terry_ties_losses(first, second, torch.tensor([[label]]), theta=theta)))


@pytest.mark.parametrize("difference", [-3.0, 0.0, 0.7, 40.0])
def test_the_three_outcomes_add_up_to_one(difference: float) -> None:
    assert sum(probability(difference, label, 3.0) for label in (1.0, 0.0, -1.0)) == pytest.approx(1.0, abs=1e-5)


def test_equal_scores_tie_half_the_time_at_theta_three() -> None:
    assert probability(0.0, 0.0, 3.0) == pytest.approx(0.5)
    assert probability(0.0, 1.0, 3.0) == pytest.approx(0.25)


def test_videoaligns_loss_at_theta_five() -> None:
    first, second = torch.full((1, 3), 0.4), torch.full((1, 3), -0.3)
    losses = bradley_terry_ties_losses(first, second, torch.tensor([[1.0, 0.0, NAN]]), theta=5.0)
    clear = -math.log(1 / (1 + math.exp(-(0.7 - math.log(5)))))
    other = -math.log(1 / (1 + math.exp(-(-0.7 - math.log(5)))))
    assert losses.tolist() == [pytest.approx([clear, clear + other - math.log(24), 0.0], abs=1e-6)]


def test_theta_near_one_is_plain_bradley_terry() -> None:
    first, second, labels = torch.tensor([[0.3], [2.0]]), torch.tensor([[1.0], [-1.0]]), torch.tensor([[1.0], [-1.0]])
    with_ties = bradley_terry_ties_losses(first, second, labels, theta=1 + 1e-6)
    assert with_ties.flatten().tolist() == pytest.approx(
        bradley_terry_losses(first, second, labels).flatten().tolist(), abs=1e-4
    )


def test_swapping_a_pair_and_its_label_changes_nothing() -> None:
    first, second = torch.randn(2, 6, 3)
    labels = torch.tensor([1.0, 0.0, -1.0]).repeat(6, 1)
    for losses in BOTH:
        assert torch.allclose(losses(first, second, labels), losses(second, first, -labels), atol=1e-6)


def test_unjudged_entries_are_zero_and_carry_no_gradient() -> None:
    first, second = torch.randn(2, 2, requires_grad=True), torch.randn(2, 2)
    labels = torch.tensor([[1.0, NAN], [0.0, NAN]])
    for losses in BOTH:
        found = losses(first, second, labels)
        assert found[:, 1].tolist() == [0, 0]
        (gradient,) = torch.autograd.grad(found.sum(), first)
        assert gradient.isfinite().all()
        assert gradient[:, 1].abs().sum() == 0
        assert gradient[0, 0] < 0


def test_plain_bradley_terry_of_ties_alone_is_zero_with_a_graph() -> None:
    first = torch.randn(2, 1, requires_grad=True)
    losses = bradley_terry_losses(first, torch.randn(2, 1), torch.zeros(2, 1))
    losses.sum().backward()
    assert losses.tolist() == [[0], [0]]


def test_losses_stay_finite_for_huge_scores() -> None:
    first, second = torch.tensor([[1e4]]), torch.tensor([[-1e4]])
    for label in (1.0, 0.0, -1.0):
        assert bradley_terry_ties_losses(first, second, torch.tensor([[label]]), theta=3.0).isfinite()


def test_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match="one shape"):
        bradley_terry_losses(torch.zeros(2, 1), torch.zeros(2, 1), torch.zeros(2))
    with pytest.raises(ValueError, match="theta 1"):
        bradley_terry_ties_losses(torch.zeros(1, 1), torch.zeros(1, 1), torch.zeros(1, 1), theta=1.0)


def test_pair_accuracy_leaves_ties_out() -> None:
    first, second = torch.tensor([[1.0], [1.0], [5.0]]), torch.tensor([[0.0], [2.0], [0.0]])
    assert pair_accuracy(first, second, torch.tensor([[1.0], [1.0], [0.0]])).tolist() == [0.5]
