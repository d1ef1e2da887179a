import math
from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.calibration import Reward
from policies.config import PairsConfig
from policies.selection import PairSelector
from policies.types import Drop, Outcome, Pair, SampleRequest, Sampling, Scored
from tests.policies.pairs import candidate
from tests.policies.toy_policy import SHAPE

SAMPLING = Sampling(num_inference_steps=1, guidance_scale=1.0, max_sequence_length=4)


def select(scores: Sequence[float | None], *, group_id: str = "g", run_seed: int = 0, **pairs: object) -> Outcome:
    """Selects from members with one score each; None is a failed one."""
    members = [
        Scored(candidate=candidate(None, group_id=group_id, seed=i), scores={} if s is None else {"VQ": s},
               failure="broken" if s is None else None)
        for i, s in enumerate(scores)
    ]  # fmt: skip
    request = SampleRequest(group_id=group_id, prompt=members[0].candidate.prompt, shape=SHAPE,
                            seeds=tuple(range(len(scores))), policy_version=0, sampling=SAMPLING)  # fmt: skip
    reward = Reward(combine="weighted_sum", weights={"VQ": 1.0}, dimensions=("VQ",))
    return PairSelector(reward, PairsConfig.model_validate(pairs), run_seed=run_seed).select(request, members)


def chosen_and_rejected(outcome: Outcome) -> tuple[int, int]:
    assert isinstance(outcome, Pair)
    return outcome.chosen, outcome.rejected


def test_the_best_is_chosen_and_the_worst_rejected() -> None:
    outcome = select([0.3, -2.0, 5.0, 1.0])
    assert chosen_and_rejected(outcome) == (2, 1)
    assert isinstance(outcome, Pair) and outcome.gap == 7.0
    assert outcome.group.rewards == (0.3, -2.0, 5.0, 1.0)


def test_reversed_exchanges_them() -> None:
    outcome = select([0.3, -2.0, 5.0, 1.0], selection="reversed")
    assert chosen_and_rejected(outcome) == (1, 2)
    assert isinstance(outcome, Pair) and outcome.gap == -7.0


def test_among_several_best_or_worst_the_lowest_index_is_taken() -> None:
    assert chosen_and_rejected(select([1.0, 3.0, 3.0, 1.0])) == (1, 0)


@pytest.mark.parametrize("failed", [None, math.nan, math.inf, -math.inf])
def test_failed_and_non_finite_scores_take_no_part(failed: float | None) -> None:
    outcome = select([failed, 1.0, failed, 2.0])
    assert chosen_and_rejected(outcome) == (3, 1)
    assert outcome.group.rewards == (None, 1.0, None, 2.0)
    for _ in range(3):
        assert set(chosen_and_rejected(select([failed, 1.0, failed, 2.0], selection="random"))) == {1, 3}


@pytest.mark.parametrize("scores", [[None, None], [1.0, None, None], [math.nan, 2.0], [1e308 * 10, 1.0]])
def test_fewer_than_two_valid_members_are_too_few(scores: list[float | None]) -> None:
    outcome = select(scores)
    assert isinstance(outcome, Drop) and outcome.reason == "too_few_scores"
    assert len(outcome.group.members) == len(scores)


@pytest.mark.parametrize("selection", ["best_worst", "random", "reversed"])
def test_every_selection_drops_the_same_groups(selection: str) -> None:
    for scores, min_gap, reason in (
        ([1.0, 1.0, 1.0], 0.0, "gap_too_small"),
        ([1.0, 1.25], 0.25, "gap_too_small"),
        ([1.0, 1.25, 1.5], 0.25, None),
        ([1.0, 1.0 + 1e-9], 0.0, None),
        ([None, 1.0], 0.0, "too_few_scores"),
    ):
        outcome = select(scores, selection=selection, min_gap=min_gap)
        assert (outcome.reason if isinstance(outcome, Drop) else None) == reason


def test_random_is_a_matter_of_run_seed_and_group_and_fair() -> None:
    def draw(group: int, run_seed: int = 0) -> tuple[int, int]:
        return chosen_and_rejected(select([0.0, 1.0, 2.0], selection="random", group_id=f"u{group}", run_seed=run_seed))

    assert [draw(g) for g in range(20)] == [draw(g) for g in range(20)]
    assert [draw(g) for g in range(20)] != [draw(g, run_seed=1) for g in range(20)]
    counts = Counter(draw(g) for g in range(600))
    assert len(counts) == 6 and min(counts.values()) > 60  # 100 each are expected


def test_a_sum_that_overflows_is_no_reward() -> None:
    reward = Reward(combine="weighted_sum", weights={"a": 1.0, "b": 1.0}, dimensions=("a", "b"))
    members = [
        Scored(candidate=candidate(None, seed=i), scores={"a": value, "b": value})
        for i, value in enumerate((1e308, 1.0))
    ]
    request = SampleRequest(group_id="g0", prompt=members[0].candidate.prompt, shape=SHAPE, seeds=(0, 1),
                            policy_version=0, sampling=SAMPLING)  # fmt: skip
    outcome = PairSelector(reward, PairsConfig(), run_seed=0).select(request, members)
    assert isinstance(outcome, Drop) and outcome.group.rewards == (None, 2.0)


@given(st.lists(st.one_of(st.none(), st.floats()), min_size=2, max_size=8), st.floats(0, 3))
def test_any_scores_give_a_pair_with_a_gap_or_a_reason(scores: list[float | None], min_gap: float) -> None:
    outcome = select(scores, min_gap=min_gap)
    finite = [s for s in scores if s is not None and math.isfinite(s)]
    if isinstance(outcome, Pair):
        assert outcome.gap == max(finite) - min(finite) > min_gap
    else:
        assert outcome.reason == ("too_few_scores" if len(finite) < 2 else "gap_too_small")
