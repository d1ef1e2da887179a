"""Work done ahead."""

import threading
from collections.abc import Iterator

import pytest

from policies.rewards.ahead import made_ahead


def test_results_come_in_order_and_only_so_many_are_begun_ahead() -> None:
    begun: list[int] = []

    def items() -> Iterator[int]:
        for number in range(20):
            begun.append(number)
            yield number

    results = made_ahead(lambda number: number * 2, items(), threads=3, ahead=4)
    assert next(results) == 0
    assert len(begun) == 5
    assert list(results) == list(range(2, 40, 2))


def test_an_error_comes_where_its_result_would_have() -> None:
    results = made_ahead(lambda number: 1 // number, [1, 0, 1], threads=2, ahead=3)
    assert next(results) == 1
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_threads_end_when_nobody_asks_any_more() -> None:
    results = made_ahead(str, range(100), threads=2, ahead=2)
    next(results)
    results.close()  # type: ignore[attr-defined]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("ahead")]
