import dataclasses
import math
import pickle

import pytest

from policies import errors
from policies.types import Group, Pair, SampleRequest, Sampling, Scored
from tests.policies.pairs import candidate, pair
from tests.policies.toy_policy import SHAPE


def request(count: int) -> SampleRequest:
    sampling = Sampling(num_inference_steps=1, guidance_scale=1.0, max_sequence_length=4)
    return SampleRequest(group_id="g", prompt=candidate(None).prompt, shape=SHAPE, seeds=tuple(range(count)),
                         policy_version=3, sampling=sampling)  # fmt: skip


def test_slices_keep_the_order_of_seeds_and_everything_else() -> None:
    slices = request(5).slices(2)
    assert [s.seeds for s in slices] == [(0, 1), (2, 3), (4,)]
    assert {dataclasses.replace(s, seeds=()) for s in slices} == {dataclasses.replace(request(5), seeds=())}


@pytest.mark.parametrize(
    ("scores", "failure", "is_valid"),
    [({"a": 1.0}, None, True), ({"a": math.nan}, None, False), ({"a": 1.0, "b": math.inf}, None, False),
     ({}, None, False), ({"a": 1.0}, "late", False)],
)  # fmt: skip
def test_a_scored_candidate_is_valid_with_all_scores_finite_and_no_failure(
    scores: dict[str, float], failure: str | None, is_valid: bool
) -> None:
    assert Scored(candidate=candidate(None), scores=scores, failure=failure).is_valid == is_valid


def test_a_pair_names_its_members_and_gap() -> None:
    one = pair("good", "bad", gap=2.5)
    assert (one.chosen_candidate.latents, one.rejected_candidate.latents, one.gap) == ("good", "bad", 2.5)
    exchanged = Pair(group=one.group, chosen=1, rejected=0)
    assert exchanged.gap == -2.5


def test_a_pair_of_one_candidate_with_itself_is_refused() -> None:
    with pytest.raises(ValueError, match="same candidate 1"):
        Pair(group=pair(None, None).group, chosen=1, rejected=1)


def test_a_group_has_one_reward_per_member() -> None:
    group = pair(None, None).group
    with pytest.raises(AssertionError):
        Group(group_id="g", prompt=group.prompt, members=group.members, rewards=(1.0,))


def test_values_are_final() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        candidate(None).seed = 1  # type: ignore[misc]


@pytest.mark.parametrize("error", [errors.InputError, errors.NonFiniteError, errors.WeightsMismatchError,
                                   errors.StallError, errors.ClusterError])  # fmt: skip
def test_errors_survive_the_way_between_processes(error: type[errors.OnlineVPOError]) -> None:
    again = pickle.loads(pickle.dumps(error("what, the value, what to do")))
    assert type(again) is error and str(again) == "what, the value, what to do"
    assert isinstance(again, errors.OnlineVPOError)
