import numpy as np
import pytest

from policies.rewards.evaluation.reliability import reliability


def pairs_of_bradley_terry(slope: float, *, count: int = 20_000) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    differences = rng.normal(size=count)
    return np.where(rng.random(count) < 1 / (1 + np.exp(-slope * differences)), 1, -1), differences


def test_choices_of_a_bradley_terry_model_lie_on_the_diagonal() -> None:
    found = reliability(*pairs_of_bradley_terry(2.5))
    assert found.slope == pytest.approx(2.5, rel=0.05)
    assert found.calibration_error is not None and found.calibration_error < 0.01
    assert len(found.bins) == 10 and all(abs(each.preferred - 2000) <= 1 for each in found.bins)
    for each in found.bins:
        assert each.confidence is not None and each.interval is not None
        assert each.interval[0] - 0.01 < each.confidence < each.interval[1] + 0.01


def test_the_unit_of_scores_does_not_matter() -> None:
    labels, differences = pairs_of_bradley_terry(1.0, count=2000)
    small, large = reliability(labels, differences), reliability(labels, differences * 1e6)
    assert large.slope == pytest.approx(small.slope / 1e6)
    assert [each.confidence for each in large.bins] == pytest.approx([each.confidence for each in small.bins])


def test_a_model_that_is_always_right_is_sure_and_one_that_is_always_wrong_is_not() -> None:
    sizes = np.linspace(0.5, 2, 40)
    right, wrong = reliability(np.ones(40, int), sizes), reliability(-np.ones(40, int), sizes)
    assert right.calibration_error == pytest.approx(0, abs=1e-9)
    assert wrong.slope == 0 and wrong.calibration_error == pytest.approx(0.5)


def test_equal_differences_share_a_bin_and_ties_are_counted_apart() -> None:
    found = reliability(np.array([1, 1, 0, -1, 0]), np.array([1.0, -1.0, 1.0, 2.0, -2.0]))
    assert [(each.lowest, each.highest, each.preferred, each.tied) for each in found.bins] == [
        (1, 1, 2, 1),
        (2, 2, 1, 1),
    ]
    assert [each.accuracy for each in found.bins] == [0.5, 0.0]


def test_ties_alone_have_no_reliability() -> None:
    found = reliability(np.array([0, 0]), np.array([0.0, 1.0]))
    assert found.calibration_error is None and found.slope == 0
    assert all(each.accuracy is None and each.interval is None for each in found.bins)
    assert reliability(np.array([1]), np.array([0.0])).bins[0].confidence == 0.5
