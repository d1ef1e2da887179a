import numpy as np
import pytest

from policies.errors import InputError
from policies.rewards.evaluation import bootstrap
from policies.rewards.evaluation.bootstrap import Bootstrap

ONES = np.ones(200)


def test_the_interval_is_about_as_wide_as_theory_says() -> None:
    """200 independent prompts, half of them right: the standard error is sqrt(0.25 / 200)."""
    interval = Bootstrap().of_share([str(i) for i in range(200)], ONES, np.arange(200) % 2)
    assert interval is not None
    assert interval == pytest.approx((0.5 - 1.96 * 0.0354, 0.5 + 1.96 * 0.0354), abs=0.012)


def test_pairs_of_one_prompt_are_drawn_together() -> None:
    """Ten prompts of twenty equal pairs say as little as ten pairs."""
    right = np.repeat(np.arange(10) % 2, 20)
    low, high = Bootstrap().of_share([str(i // 20) for i in range(200)], ONES, right) or (0, 0)
    assert high - low > 0.5


def test_equal_seeds_give_equal_intervals_in_blocks_of_any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    ids, right = [str(i) for i in range(200)], np.sin(np.arange(200.0))
    first = Bootstrap(seed=1).of_share(ids, ONES, right)
    assert first != Bootstrap(seed=2).of_share(ids, ONES, right)
    monkeypatch.setattr(bootstrap, "_DRAWS_AT_ONCE", 200 * 7)
    assert first == Bootstrap(seed=1).of_share(ids, ONES, right)


def test_a_share_and_the_same_metric_have_the_same_interval() -> None:
    ids, right = [str(i % 40) for i in range(200)], (np.arange(200) % 3 == 0).astype(float)
    by_metric = Bootstrap(draws=100).of_metric(ids, lambda drawn: float(right[drawn].mean()))
    assert by_metric == pytest.approx(Bootstrap(draws=100).of_share(ids, ONES, right))


def test_there_is_no_interval_without_two_prompts_or_draws() -> None:
    assert Bootstrap().of_share(["p"] * 200, ONES, ONES) is None
    assert Bootstrap(draws=0).of_share([str(i) for i in range(200)], ONES, ONES) is None
    assert Bootstrap(draws=0).of_metric(["a", "b"], lambda drawn: 1.0) is None


def test_there_is_no_interval_where_the_metric_mostly_has_no_value() -> None:
    ids = [str(i) for i in range(200)]
    assert Bootstrap().of_share(ids, np.zeros(200), ONES) is None
    assert Bootstrap(draws=50).of_metric(ids, lambda drawn: None) is None
    with pytest.raises(InputError, match="-1 bootstrap draws"):
        Bootstrap(draws=-1)
