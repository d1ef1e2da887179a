"""The loop on a model of a few numbers: it learns, cuts change nothing, and it goes on where it stopped."""

from collections.abc import Iterator
from itertools import islice

import pytest
import torch
from torch import Tensor, nn

from policies.errors import NonFiniteError, WeightsMismatchError
from policies.optimizers import Schedule
from policies.rewards.bradley_terry import pair_accuracy
from policies.rewards.training.loop import LabelledVideos, Step, StepStats, train
from policies.rewards.training.losses import PairLoss
from policies.rewards.training.optimizer import AdamSettings, RewardOptimizer, WeightGroup


def network(dropout: float = 0.0) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Dropout(dropout), nn.Linear(8, 1, bias=False))


def optimizer_of(model: nn.Module, *, lr: float = 0.05, muon: bool = False) -> RewardOptimizer:
    named = dict(model.named_parameters())
    groups = [
        WeightGroup(name="inner", weights={"0.weight": named["0.weight"]}, lr=lr, is_muon=muon),
        WeightGroup(name="rest", weights={n: w for n, w in named.items() if n != "0.weight"}, lr=lr / 2),
        WeightGroup(name="none", weights={}, lr=lr),
    ]
    return RewardOptimizer(groups, Schedule(lr=1.0, steps=150, warmup_steps=5, decay_start=1.0), AdamSettings())


def pairs(step: int, count: int = 24) -> LabelledVideos[Tensor]:
    """Pairs whose order is that of a hidden sum; near ones are tied."""
    videos = torch.randn(2 * count, 4, generator=torch.Generator().manual_seed(step))
    gap = videos[:count].sum(1, keepdim=True) - videos[count:].sum(1, keepdim=True)
    return LabelledVideos(videos, torch.where(gap.abs() < 0.5, 0.0, gap.sign()))


def steps(first: int = 0, *, cuts: int = 1) -> Iterator[Step[Tensor]]:
    for number in range(first, 10_000):
        whole = pairs(number)
        left, right = whole.inputs.chunk(2)
        parts = zip(left.chunk(cuts), right.chunk(cuts), whole.labels.chunk(cuts), strict=True)
        yield Step(labels=whole.labels, micro_batches=[LabelledVideos(torch.cat([a, b]), y) for a, b, y in parts])


def run(
    model: nn.Module, optimizer: RewardOptimizer, count: int, *, cuts: int = 1, theta: float = 3.0
) -> list[StepStats]:
    data = steps(optimizer.steps, cuts=cuts)
    loss = PairLoss(theta=theta, invalid="left_out")
    return list(islice(train(model, data, loss=loss, optimizer=optimizer, seed=1), count))


@pytest.mark.parametrize("theta", [1.0, 3.0])
@pytest.mark.parametrize("muon", [False, True])
def test_any_model_learns_a_hidden_order(theta: float, muon: bool) -> None:
    model = network()
    run(model, optimizer_of(model, muon=muon), 150, theta=theta)
    held_out = pairs(99_999, count=400)
    first, second = model(held_out.inputs).chunk(2)
    assert float(pair_accuracy(first, second, held_out.labels)) > 0.95


def test_micro_batches_give_the_gradient_of_the_whole_batch() -> None:
    found = []
    for cuts in (1, 3):
        model = network()
        found.append((run(model, optimizer_of(model), 5, cuts=cuts), model[0].weight))
    (whole, weight), (cut, other) = found
    assert [stats.loss for stats in cut] == pytest.approx([stats.loss for stats in whole], rel=1e-5)
    assert [stats.gradient_norm for stats in cut] == pytest.approx([s.gradient_norm for s in whole], rel=1e-4)
    assert torch.allclose(weight, other, atol=1e-5)


@pytest.mark.parametrize("muon", [False, True])
def test_a_resumed_training_equals_an_unbroken_one_bit_for_bit(muon: bool) -> None:
    model = network(dropout=0.3)
    optimizer = optimizer_of(model, muon=muon)
    begun = run(model, optimizer, 7, cuts=2)
    state = optimizer.state()
    unbroken = run(model, optimizer, 5, cuts=2)

    torch.manual_seed(12_345)  # whatever else draws in between
    again = network(dropout=0.3)
    resumed = optimizer_of(again, muon=muon)
    resumed.load(state, steps=7)
    assert run(again, resumed, 5, cuts=2) == unbroken
    assert begun[-1].step == 7
    assert unbroken[-1].step == 12
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))


def test_dropout_leaves_the_global_random_state_alone() -> None:
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    model = network(dropout=0.5)
    run(model, optimizer_of(model), 2)
    assert torch.equal(torch.rand(1), expected)


def test_groups_have_learning_rates_of_their_own_after_a_common_warm_up() -> None:
    model = network()
    found = run(model, optimizer_of(model, lr=0.06), 8)
    assert found[0].learning_rates == pytest.approx({"inner": 0.01, "rest": 0.005})
    assert found[7].learning_rates == pytest.approx({"inner": 0.06, "rest": 0.03})


def test_a_loss_that_is_not_finite_stops_before_it_harms_the_weights() -> None:
    model = network()
    optimizer = optimizer_of(model)
    before = model[0].weight.clone()
    bad = [
        Step(labels=torch.ones(1, 1), micro_batches=[LabelledVideos(torch.full((2, 4), torch.nan), torch.ones(1, 1))])
    ]
    with pytest.raises(NonFiniteError, match=r"step 1: loss nan.*inner 0\.0083"):
        list(train(model, bad, loss=PairLoss(), optimizer=optimizer, seed=0))
    assert torch.equal(model[0].weight, before)


def test_the_state_of_other_weights_is_refused() -> None:
    model = network()
    state = optimizer_of(model).state()
    del state["weights/3.weight"]
    with pytest.raises(WeightsMismatchError, match="2 trained weights, and not the 3"):
        optimizer_of(model).load(state, steps=1)
