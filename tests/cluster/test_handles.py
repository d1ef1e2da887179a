import numpy as np

from cluster.handles import Row, as_arguments, rows_of


def test_rows_of_one_array_pass_it_once():
    places, arrays = as_arguments([Row("a", 0), Row("a", 1), Row("b", 0), Row("a", 2)])
    assert arrays == ["a", "b"]
    assert places == [(0, 0), (0, 1), (1, 0), (0, 2)]


def test_rows_arrive_in_the_order_of_the_handles():
    store = {"a": np.arange(6).reshape(3, 2), "b": np.full((1, 2), 9)}
    places, arrays = as_arguments([Row("b", 0), Row("a", 2), Row("a", 0)])
    rows = rows_of(places, [store[name] for name in arrays])
    assert np.stack(rows).tolist() == [[9, 9], [4, 5], [0, 1]]


async def test_a_fetched_row_is_that_row():
    async def resolve() -> np.ndarray:
        return np.arange(6).reshape(3, 2)

    assert (await Row(resolve(), 1).fetch()).tolist() == [2, 3]
