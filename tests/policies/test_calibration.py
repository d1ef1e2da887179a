import math
import statistics

import pytest

from policies.calibration import Calibration, Reward
from policies.config import ShapesRewardConfig
from policies.errors import InputError

DIMENSIONS = ("VQ", "MQ", "TA")
SCORES = [{"VQ": 1.0, "MQ": -4.0, "TA": 10.0}, {"VQ": 2.0, "MQ": -2.0, "TA": 30.0}, {"VQ": 6.0, "MQ": 0.0, "TA": 20.0}]


def reward_of(calibration: Calibration | None = None, **settings: object) -> Reward:
    return Reward.of(ShapesRewardConfig.model_validate(settings), dimensions=DIMENSIONS, calibration=calibration)


def test_fit_takes_mean_and_sample_deviation_of_each_dimension() -> None:
    calibration = Calibration.fit(SCORES)
    assert calibration.mean == {"VQ": 3.0, "MQ": -2.0, "TA": 20.0}
    assert calibration.std == pytest.approx({"VQ": statistics.stdev([1, 2, 6]), "MQ": 2.0, "TA": 10.0})
    assert calibration.samples == 3


def test_mean_z_of_the_calibration_samples_has_mean_zero() -> None:
    reward = reward_of(Calibration.fit(SCORES))
    assert sum(map(reward, SCORES)) == pytest.approx(0, abs=1e-12)
    assert reward({"VQ": 3.0, "MQ": 2.0, "TA": 30.0}) == pytest.approx((0 + 2 + 1) / 3)


def test_mean_z_is_a_weighted_mean() -> None:
    reward = reward_of(Calibration.fit(SCORES), weights={"MQ": 3.0, "TA": -1.0})
    assert reward({"VQ": 1e9, "MQ": 2.0, "TA": 30.0}) == pytest.approx((3 * 2 - 1 * 1) / 4)


def test_weighted_sum_takes_raw_scores() -> None:
    assert reward_of(combine="weighted_sum", weights={"VQ": 0.5, "TA": -2.0})(SCORES[0]) == 0.5 - 20
    assert reward_of(combine="weighted_sum")(SCORES[0]) == 7.0


def test_one_dimension_alone() -> None:
    assert [reward_of(combine="weighted_sum", weights={"MQ": 1.0})(s) for s in SCORES] == [-4.0, -2.0, 0.0]


def test_a_weight_on_an_unknown_dimension_is_refused_with_the_known_ones() -> None:
    with pytest.raises(InputError, match=r"names vq, .*VQ, MQ, TA"):
        reward_of(combine="weighted_sum", weights={"vq": 1.0, "MQ": 1.0})


def test_weights_that_rank_nothing_are_refused() -> None:
    for weights in ({"VQ": 0.0}, {}, {"VQ": math.nan}):
        with pytest.raises(InputError, match="rank nothing"):
            Reward(combine="weighted_sum", weights=weights, dimensions=DIMENSIONS)


def test_a_dimension_that_does_not_vary_is_refused_where_it_counts() -> None:
    constant = Calibration.fit([{**s, "MQ": 0.1} for s in SCORES])
    assert constant.std["MQ"] == 0.0
    with pytest.raises(InputError, match="MQ did not vary over 3 samples"):
        reward_of(constant)
    reward_of(constant, weights={"VQ": 1.0})
    rounding = Calibration.fit([{**s, "MQ": 0.1 + i * 1e-9} for i, s in enumerate(SCORES)])
    with pytest.raises(InputError, match="MQ did not vary"):
        reward_of(rounding)


def test_mean_z_needs_a_calibration_of_its_dimensions() -> None:
    with pytest.raises(InputError, match="needs a calibration"):
        reward_of()
    with pytest.raises(InputError, match="lacks TA"):
        reward_of(Calibration.fit([{"VQ": 1.0, "MQ": 2.0}, {"VQ": 2.0, "MQ": 1.0}]))


@pytest.mark.parametrize(
    "scores", [[], SCORES[:1], [SCORES[0], {"VQ": 1.0}], [SCORES[0], {**SCORES[1], "MQ": math.nan}]]
)
def test_fit_refuses_what_has_no_statistics(scores: list[dict[str, float]]) -> None:
    with pytest.raises(InputError, match="calibration"):
        Calibration.fit(scores)


def test_json_round_trip_is_exact() -> None:
    calibration = Calibration.fit([{"VQ": 0.1 * i**2, "MQ": i / 3} for i in range(7)])
    assert Calibration.from_json(calibration.to_json()) == calibration


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"mean": {"a": 1}, "std": {}, "samples": 3}',
                                  '{"mean": {"a": NaN}, "std": {"a": 1}, "samples": 3}'])  # fmt: skip
def test_other_json_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="no calibration"):
        Calibration.from_json(text)


def test_scores_without_a_dimension_that_counts_are_refused() -> None:
    with pytest.raises(InputError, match="lack TA"):
        reward_of(combine="weighted_sum")({"VQ": 1.0, "MQ": 1.0})
