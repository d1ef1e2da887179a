"""Muon, its schedule and the averaged weights."""

import pytest
import torch
from torch import nn

from policies.errors import NonFiniteError
from policies.optimizers import Descent, Muon, Schedule, orthogonalized


@pytest.mark.parametrize("shape", [(8, 8), (4, 30), (30, 4)])
def test_an_orthogonalized_matrix_has_singular_values_near_one(shape: tuple[int, int]) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    values = torch.linalg.svdvals(orthogonalized(matrix, iterations=6))
    assert 0.5 < values.min() <= values.max() < 1.5


def test_muon_moves_a_kernel_as_far_as_adamw_would() -> None:
    kernel = nn.Parameter(torch.zeros(6, 4, 3, 3))
    kernel.grad = torch.randn(6, 4, 3, 3, generator=torch.Generator().manual_seed(0))
    Muon([kernel], lr=0.1).step()
    assert kernel.detach().square().mean().sqrt() == pytest.approx(0.1 * 0.2, rel=0.3)
    assert (kernel.detach() * kernel.grad).sum() < 0


def test_muon_finds_a_minimum() -> None:
    target = torch.randn(5, 7, generator=torch.Generator().manual_seed(0))
    weight = nn.Linear(7, 5, bias=False)
    descent = Descent(weight, Schedule(lr=0.2, steps=200, warmup_steps=5), is_muon=lambda name, tensor: True)
    losses = [descent.step((weight.weight - target).square().mean()) for _ in range(200)]
    assert losses[-1] < 0.01 * losses[0]


def test_the_schedule_warms_up_stays_and_falls_to_zero() -> None:
    schedule = Schedule(lr=1.0, steps=100, warmup_steps=9, decay_start=0.5)
    assert schedule.at(0) == pytest.approx(0.1)
    assert schedule.at(20) == schedule.at(50) == 1.0
    assert schedule.at(75) == pytest.approx(0.5)
    assert 0 < schedule.at(99) < 0.03
    with pytest.raises(ValueError, match="lr > 0"):
        Schedule(lr=0.0, steps=1, warmup_steps=0)


def test_the_average_lags_behind_and_can_be_loaded() -> None:
    model = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)
    schedule = Schedule(lr=0.1, steps=50, warmup_steps=0)
    descent = Descent(model, schedule, is_muon=lambda name, tensor: False, ema_decay=0.9)
    for _ in range(50):
        descent.step((model.weight - 10).square().sum())
    last = float(model.weight.detach())
    descent.load_average()
    assert 0 < float(model.weight.detach()) < last


def test_a_loss_that_is_not_finite_leaves_the_weights_alone() -> None:
    model = nn.Linear(1, 1)
    before = model.weight.detach().clone()
    schedule = Schedule(lr=0.1, steps=5, warmup_steps=0)
    descent = Descent(model, schedule, is_muon=lambda name, tensor: False)
    with pytest.raises(NonFiniteError, match="loss nan"):
        descent.step(model.weight.sum() * float("nan"))
    assert torch.equal(model.weight.detach(), before)
