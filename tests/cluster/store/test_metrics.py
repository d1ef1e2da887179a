import asyncio
import math
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.store.columns import SLOTS
from cluster.store.open import open_store
from cluster.store.run_writes import MOST_NAMES
from cluster.store.store import Store
from cluster.store.thinning import thinned
from policies.errors import InputError
from tests.cluster.store.conftest import QUICK, Place
from tests.cluster.store.run_parts import Writer, curve, line

ODD_VALUES = [0.0, -0.0, 1e-320, -1e308, 0.1, float(2**53), math.pi]


async def test_points_come_back_as_they_were_told(store: Store, other: Store) -> None:
    writer = await Writer.begin(store)
    await writer.tell(*(line(update, odd=value) for update, value in enumerate(ODD_VALUES)))
    read = await curve(other, "odd")
    assert [read[update].hex() for update in range(len(ODD_VALUES))] == [value.hex() for value in ODD_VALUES]


async def test_a_value_that_does_not_exist_is_no_point(store: Store) -> None:
    writer = await Writer.begin(store)
    await writer.tell(line(0, loss=1.0), line(1), line(2, loss=math.nan), line(3, loss=math.inf), line(4, loss=0.0))
    await writer.tell(line(5, other=1.0))
    assert await curve(store, "loss") == {0: 1.0, 4: 0.0}


async def test_all_curves_are_read_when_none_is_named(store: Store) -> None:
    writer = await Writer.begin(store)
    await writer.tell(line(0, loss=1.0, **{"scores.VQ.mean": 2.0, "scores.a/b c.mean": 3.0}))
    found = await store.metrics.read("demo")
    assert found is not None
    assert {name: points.values.tolist() for name, points in found.curves.items()} == {
        "loss": [1.0], "scores.VQ.mean": [2.0], "scores.a/b c.mean": [3.0],
    }  # fmt: skip
    assert (await store.metrics.read("demo", ["loss", "loss", "unknown"])).curves.keys() == {"loss"}  # type: ignore[union-attr]


async def test_ranges_of_updates(store: Store) -> None:
    writer = await Writer.begin(store)
    await writer.tell(*(line(update, loss=float(update)) for update in range(3 * SLOTS)))

    async def read(since: int | None = None, step_range: tuple[int, int] | None = None) -> list[int]:
        found = await store.metrics.read("demo", ["loss"], since=since, step_range=step_range)
        assert found is not None
        return found.curves["loss"].updates.tolist()  # type: ignore[no-any-return]

    assert await read() == list(range(3 * SLOTS))
    assert await read(since=SLOTS) == list(range(SLOTS + 1, 3 * SLOTS))
    assert await read(step_range=(SLOTS - 1, SLOTS)) == [SLOTS - 1, SLOTS]
    assert await read(since=3, step_range=(0, 5)) == [4, 5]
    assert await read(since=5, step_range=(0, 5)) == await read(since=10**9) == await read(step_range=(7, 6)) == []
    assert await read(step_range=(-5, 10**12)) == list(range(3 * SLOTS))


@pytest.mark.parametrize("max_points", [3, 0, -1])
async def test_a_curve_has_at_least_four_points(store: Store, max_points: int) -> None:
    with pytest.raises(InputError, match="at least 4"):
        await store.metrics.read("demo", max_points=max_points)


async def test_a_spike_survives_thinning_on_the_server(store: Store) -> None:
    writer = await Writer.begin(store)
    count = 4 * SLOTS
    await writer.tell(*(line(update, loss=99.0 if update == 777 else 1.0) for update in range(count)))
    found = await store.metrics.read("demo", ["loss"], max_points=10)
    assert found is not None
    points = found.curves["loss"]
    assert len(points.values) <= 10 and points.total == count
    assert dict(zip(points.updates.tolist(), points.values.tolist(), strict=True))[777] == 99.0
    assert (points.updates[0], points.updates[-1]) == (0, count - 1)


async def test_a_resumed_run_writes_its_lines_again_and_shorter_ones_are_gone(store: Store, other: Store) -> None:
    first = await Writer.begin(store)
    await first.tell(*(line(update, loss=1.0, gone=1.0) for update in range(10)))
    second = await Writer.begin(other, first_update=4)
    assert await curve(store, "loss") == dict.fromkeys(range(4), 1.0)
    await second.tell(line(4, loss=2.0), line(5, loss=2.0))
    assert await curve(store, "loss") == {**dict.fromkeys(range(4), 1.0), 4: 2.0, 5: 2.0}
    assert await curve(store, "gone") == dict.fromkeys(range(4), 1.0)
    found = await store.metrics.read("demo")
    assert found is not None and found.run.attempt == 2


async def test_names_beyond_what_a_run_may_have_are_left_out(store: Store) -> None:
    writer = await Writer.begin(store)
    await writer.tell(line(0, **{f"n{number}": 1.0 for number in range(MOST_NAMES + 5)}), line(1, late=1.0, n0=1.0))
    run = await store.runs.get("demo")
    assert run is not None and len(run.names) == MOST_NAMES
    assert await curve(store, "n0") == {0: 1.0, 1: 1.0} and await curve(store, "late") == {}


updates_told = st.lists(st.integers(0, 6), max_size=6)


async def _follows_a_plain_dictionary(
    open_one: Callable[[], Awaitable[Store]], attempts: list[tuple[int, list[int]]]
) -> None:
    """Whatever is resumed where: what is read is what the latest attempts told."""
    store, value, expected, reached = await open_one(), 0.0, dict[int, float](), -1
    for resumed_at, steps in attempts:
        writer = await Writer.begin(store, first_update=resumed_at)
        first = writer.begun.first_update
        assert first == min(resumed_at, reached + 1)
        expected = {update: each for update, each in expected.items() if update < first}
        update, reached = first, first - 1
        for step in steps:
            value += 1.0
            update += step  # steps above 1 are lines that were dropped
            await writer.tell(line(update, loss=value))
            expected[update], reached = value, update
            update += 1
        assert await curve(store, "loss") == expected
    await store.close()


@settings(max_examples=40)
@given(st.lists(st.tuples(st.integers(0, 20), updates_told), max_size=4))
def test_curves_follow_a_plain_dictionary_through_resumes(attempts: list[tuple[int, list[int]]]) -> None:
    with tempfile.TemporaryDirectory(dir=QUICK) as folder:
        asyncio.run(_follows_a_plain_dictionary(lambda: open_store(Path(folder) / "s"), attempts))


async def test_curves_follow_a_plain_dictionary_on_each_backend(place: Place) -> None:
    attempts = [(0, [0] * 5 + [SLOTS] + [0] * 3), (4, [0, 3, 0]), (6, [2 * SLOTS]), (600, [0] * 4), (1, [0])]
    await _follows_a_plain_dictionary(place.open, attempts)


@given(
    values=st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=300),
    gaps=st.lists(st.integers(1, 50), min_size=300, max_size=300),
    max_points=st.integers(4, 60),
)
def test_thinned_points_are_points_of_the_curve_with_its_extremes_and_ends(
    values: list[float], gaps: list[int], max_points: int
) -> None:
    updates, array = np.cumsum(gaps[: len(values)]), np.array(values)
    kept_updates, kept_values = thinned(updates, array, max_points)
    whole = dict(zip(updates.tolist(), values, strict=True))
    kept = dict(zip(kept_updates.tolist(), kept_values.tolist(), strict=True))
    assert kept.items() <= whole.items() and len(kept) == len(kept_updates) <= max_points
    assert list(kept) == sorted(kept)
    assert (min(kept.values()), max(kept.values())) == (min(values), max(values))
    assert {min(whole), max(whole)} <= kept.keys()
    if len(values) <= max_points:
        assert kept == whole
