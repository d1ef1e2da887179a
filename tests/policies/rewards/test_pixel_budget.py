"""Micro-batches by pixels."""

from hypothesis import given
from hypothesis import strategies as st

from policies.rewards.pixel_budget import micro_batches


@given(st.lists(st.integers(0, 50), max_size=20), st.integers(1, 100))
def test_every_input_goes_once_and_only_one_alone_exceeds_the_budget(costs: list[int], budget: int) -> None:
    batches = list(micro_batches(costs, budget))
    assert sorted(index for batch in batches for index in batch) == list(range(len(costs)))
    assert all(sum(costs[index] for index in batch) <= budget or len(batch) == 1 for batch in batches)


def test_equal_inputs_fill_the_budget() -> None:
    assert [len(batch) for batch in micro_batches([10] * 5, 29)] == [2, 2, 1]
