import pytest

from services.scoring.counters import Pace, Rate


def test_nothing_is_known_before_anything_is_done() -> None:
    assert Rate().per_second(5.0, is_busy=True) is None


def test_idle_time_does_not_count() -> None:
    rate = Rate()
    for begun in (0.0, 100.0, 200.0):
        rate.begin(begun)
        rate.count(10, begun + 2.0)
    assert rate.per_second(300.0, is_busy=False) == pytest.approx(5.0, rel=0.1)


def test_a_batch_that_takes_long_makes_it_slower_before_it_ends() -> None:
    rate = Rate()
    rate.begin(0.0)
    rate.count(10, 1.0)
    assert rate.per_second(5.0, is_busy=True) == pytest.approx(2.0)


def test_what_was_long_ago_is_forgotten() -> None:
    rate = Rate()
    rate.begin(0.0)
    rate.count(1000, 1.0)
    for second in range(2, 300):
        rate.count(2, float(second))
    assert rate.per_second(299.0, is_busy=True) == pytest.approx(2.0, rel=0.05)


def test_nothing_is_bound_by_hops_before_a_batch_ended() -> None:
    assert not Pace().is_bound_by_hops


def test_a_batch_that_waited_its_turn_says_nothing_of_the_hop() -> None:
    pace = Pace()
    pace.count(25.0, 20.0, waited=False)
    for _ in range(50):
        pace.count(60.0, 20.0, waited=True)
    assert not pace.is_bound_by_hops


def test_the_pace_follows_a_model_that_becomes_slower() -> None:
    pace = Pace()
    pace.count(3.0, 0.1, waited=False)
    assert pace.is_bound_by_hops
    for _ in range(3):
        pace.count(25.0, 20.0, waited=True)
    assert not pace.is_bound_by_hops
