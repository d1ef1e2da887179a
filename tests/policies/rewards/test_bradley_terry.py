"""Bradley-Terry with and without ties."""

import math
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from policies.rewards.bradley_terry import (
    BradleyTerryConfig,
    PairBatch,
    bradley_terry_loss,
    bradley_terry_ties_loss,
    pair_accuracy,
    train_bradley_terry,
)

NAN = float("nan")


def probability(difference: float, label: float, theta: float) -> float:
    first, second = torch.tensor([[difference]]), torch.tensor([[0.0]])
    return math.exp(-float(bradley_terry_ties_loss(first, second, torch.tensor([[label]]), theta=theta)))


@pytest.mark.parametrize("difference", [-3.0, 0.0, 0.7, 40.0])
def test_the_three_outcomes_add_up_to_one(difference: float) -> None:
    assert sum(probability(difference, label, 3.0) for label in (1.0, 0.0, -1.0)) == pytest.approx(1.0, abs=1e-5)


def test_equal_scores_tie_half_the_time_at_theta_three() -> None:
    assert probability(0.0, 0.0, 3.0) == pytest.approx(0.5)
    assert probability(0.0, 1.0, 3.0) == pytest.approx(0.25)


def test_theta_near_one_is_plain_bradley_terry() -> None:
    first, second, labels = torch.tensor([[0.3], [2.0]]), torch.tensor([[1.0], [-1.0]]), torch.tensor([[1.0], [-1.0]])
    with_ties = bradley_terry_ties_loss(first, second, labels, theta=1 + 1e-6)
    assert float(with_ties) == pytest.approx(float(bradley_terry_loss(first, second, labels)), abs=1e-4)


def test_swapping_a_pair_and_its_label_changes_nothing() -> None:
    first, second = torch.randn(2, 6, 3)
    labels = torch.tensor([1.0, 0.0, -1.0]).repeat(6, 1)
    for loss in (bradley_terry_loss, lambda a, b, y: bradley_terry_ties_loss(a, b, y, theta=3.0)):
        assert float(loss(first, second, labels)) == pytest.approx(float(loss(second, first, -labels)), abs=1e-6)


def test_unjudged_entries_count_for_nothing_and_carry_no_gradient() -> None:
    first, second = torch.randn(2, 2, requires_grad=True), torch.randn(2, 2)
    labels = torch.tensor([[1.0, NAN], [0.0, NAN]])
    for loss in (bradley_terry_loss, lambda a, b, y: bradley_terry_ties_loss(a, b, y, theta=3.0)):
        (gradient,) = torch.autograd.grad(loss(first, second, labels), first)
        assert gradient.isfinite().all()
        assert gradient[:, 1].abs().sum() == 0
        assert gradient[0, 0] < 0


def test_plain_bradley_terry_of_ties_alone_is_zero_with_a_graph() -> None:
    first = torch.randn(2, 1, requires_grad=True)
    loss = bradley_terry_loss(first, torch.randn(2, 1), torch.zeros(2, 1))
    loss.backward()
    assert float(loss.detach()) == 0


def test_losses_stay_finite_for_huge_scores() -> None:
    first, second = torch.tensor([[1e4]]), torch.tensor([[-1e4]])
    for label in (1.0, 0.0, -1.0):
        assert bradley_terry_ties_loss(first, second, torch.tensor([[label]]), theta=3.0).isfinite()


def test_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match="one shape"):
        bradley_terry_loss(torch.zeros(2, 1), torch.zeros(2, 1), torch.zeros(2))
    with pytest.raises(ValueError, match="theta 1"):
        bradley_terry_ties_loss(torch.zeros(1, 1), torch.zeros(1, 1), torch.zeros(1, 1), theta=1.0)
    with pytest.raises(ValueError, match="theta"):
        BradleyTerryConfig(theta=0.5)


def test_pair_accuracy_leaves_ties_out() -> None:
    first, second = torch.tensor([[1.0], [1.0], [5.0]]), torch.tensor([[0.0], [2.0], [0.0]])
    assert pair_accuracy(first, second, torch.tensor([[1.0], [1.0], [0.0]])).tolist() == [0.5]


def pairs_by_sum() -> Iterator[PairBatch[Tensor]]:
    rng = torch.Generator().manual_seed(0)
    while True:
        first, second = torch.randn(2, 32, 4, generator=rng)
        gap = (first - second).sum(1, keepdim=True)
        yield PairBatch(first, second, torch.where(gap.abs() < 0.5, 0.0, gap.sign()))


@pytest.mark.parametrize("theta", [1.0, 3.0])
def test_any_model_learns_a_hidden_order(theta: float) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Linear(4, 1)
    config = BradleyTerryConfig(steps=150, lr=0.05, warmup_steps=5, theta=theta)
    train_bradley_terry(model, model, pairs_by_sum(), config)
    batch = next(pairs_by_sum())
    assert float(pair_accuracy(model(batch.first), model(batch.second), batch.labels_BD)) > 0.95
    assert not model.training
