import asyncio
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.store import pairs
from cluster.store.open import open_store
from cluster.store.pairs import Order, PairFilter, sortable
from cluster.store.run_items import Pair
from cluster.store.store import Store
from policies.errors import InputError
from tests.cluster.store.conftest import QUICK
from tests.cluster.store.run_parts import Writer, line, pair


async def every(store: Store, which: PairFilter | None = None, *, order: Order = "newest", limit: int = 3) -> list[str]:
    found, cursor = [], None
    while True:
        page = await store.pairs.page("demo", which, order=order, cursor=cursor, limit=limit)
        found += [each.group_id for each in page.items]
        if (cursor := page.next_cursor) is None:
            return found


def ids(*places: tuple[int, int]) -> list[str]:
    return [f"u{update:06d}-p{slot:03d}" for update, slot in places]


async def test_a_pair_comes_back_as_it_was_told(store: Store, other: Store) -> None:
    writer = await Writer.begin(store)
    told = pair(3, 1, margin=0.25, chosen={"VQ": 1.0, "MQ": 0.1}, rejected={"VQ": 0.5, "MQ": 0.4}, conflicts=("MQ",))
    await writer.tell(told)
    assert (await other.pairs.page("demo")).items == [told]
    assert await other.pairs.get("demo", told.group_id) == told
    assert await other.pairs.get("demo", "u000009-p000") is None
    assert await other.pairs.get("nobody", told.group_id) is None


async def test_pairs_are_found_by_prompt_margin_conflict_and_update(store: Store) -> None:
    writer = await Writer.begin(store)
    await writer.tell(
        pair(0, 0, prompt_id="a", margin=0.5),
        pair(0, 1, prompt_id="b", margin=2.0, conflicts=("MQ",)),
        pair(1, 0, prompt_id="a", margin=-1.0, conflicts=("VQ", "MQ")),
        pair(1, 1, prompt_id="a/b c", margin=3.5),
        pair(2, 0, prompt_id="b", margin=0.5, conflicts=("VQ",)),
    )
    assert await every(store) == ids((2, 0), (1, 1), (1, 0), (0, 1), (0, 0))
    assert await every(store, PairFilter(prompt_id="a")) == ids((1, 0), (0, 0))
    assert await every(store, PairFilter(prompt_id="a/b c")) == ids((1, 1))
    assert await every(store, PairFilter(prompt_id="nobody's")) == []
    assert await every(store, PairFilter(conflict="any")) == ids((2, 0), (1, 0), (0, 1))
    assert await every(store, PairFilter(conflict="VQ")) == ids((2, 0), (1, 0))
    assert await every(store, PairFilter(conflict="MQ", prompt_id="b")) == ids((0, 1))
    assert await every(store, PairFilter(min_margin=0.5)) == ids((2, 0), (1, 1), (0, 1), (0, 0))
    assert await every(store, PairFilter(max_margin=0.5, prompt_id="b")) == ids((2, 0))
    assert await every(store, PairFilter(first_update=1, last_update=1)) == ids((1, 1), (1, 0))
    assert await every(store, order="largest_margin") == ids((1, 1), (0, 1), (2, 0), (0, 0), (1, 0))
    assert await every(store, order="smallest_margin") == ids((1, 0), (0, 0), (2, 0), (0, 1), (1, 1))
    between = PairFilter(min_margin=0.5, max_margin=2.0)
    assert await every(store, between, order="largest_margin") == ids((0, 1), (2, 0), (0, 0))
    assert await every(store, between, order="smallest_margin", limit=1) == ids((0, 0), (2, 0), (0, 1))


async def test_pairs_of_updates_that_were_done_again_are_those_of_the_resumed_run(store: Store) -> None:
    first = await Writer.begin(store)
    await first.tell(*(line(update, loss=1.0) for update in range(3)))
    await first.tell(pair(0, margin=1.0), pair(1, margin=1.0), pair(1, 1, margin=1.0, conflicts=("VQ",)))
    second = await Writer.begin(store, first_update=1)
    assert await every(store) == ids((0, 0)) and await store.pairs.get("demo", "u000001-p000") is None
    await second.tell(line(1, loss=1.0), pair(1, margin=7.0))
    assert await every(store) == await every(store, order="largest_margin") == ids((1, 0), (0, 0))
    assert await every(store, PairFilter(conflict="any")) == []
    again = await store.pairs.get("demo", "u000001-p000")
    assert again is not None and again.margin == 7.0


async def test_a_search_that_finds_little_goes_on_with_the_next_page(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pairs, "LOOKED_AT", 4)
    monkeypatch.setattr(pairs, "MOST_LOOKED_AT", 8)
    writer = await Writer.begin(store)
    await writer.tell(*(pair(update, margin=9.0 if update in (1, 25) else 0.0) for update in range(30)))
    page = await store.pairs.page("demo", PairFilter(min_margin=1.0), limit=2)
    assert [each.update for each in page.items] == [25] and page.next_cursor is not None
    assert await every(store, PairFilter(min_margin=1.0), limit=2) == ids((25, 0), (1, 0))


@pytest.mark.parametrize("limit", [0, 1001])
async def test_a_page_of_pairs_has_a_size(store: Store, limit: int) -> None:
    with pytest.raises(InputError, match="1 to 1000"):
        await store.pairs.page("demo", limit=limit)


async def test_a_cursor_from_elsewhere_is_refused(store: Store) -> None:
    await Writer.begin(store)
    with pytest.raises(InputError, match="was not given out by this service"):
        await store.pairs.page("demo", cursor="%%%")


@given(st.floats(allow_nan=False), st.floats(allow_nan=False))
def test_margins_sort_as_text_as_they_do_as_numbers(one: float, other: float) -> None:
    assert (sortable(one) < sortable(other)) == (one < other)


some_pairs = st.lists(
    st.tuples(st.integers(0, 4), st.sampled_from("ab"), st.sampled_from([-1.0, 0.0, 0.5, 2.0]), st.booleans()),
    max_size=12,
)
some_filters = st.builds(
    PairFilter,
    prompt_id=st.sampled_from([None, "a"]),
    min_margin=st.sampled_from([None, -1.0, 0.0, 1.0]),
    max_margin=st.sampled_from([None, 0.0, 0.5]),
    conflict=st.sampled_from([None, "any", "VQ"]),
    first_update=st.integers(0, 3),
    last_update=st.sampled_from([None, 2, 4]),
)


@settings(max_examples=60)
@given(some_pairs, some_filters, st.sampled_from(["newest", "largest_margin", "smallest_margin"]), st.integers(1, 4))
def test_every_order_and_filter_pages_through_exactly_the_pairs_that_match(
    drawn: list[tuple[int, str, float, bool]], which: PairFilter, order: Order, limit: int
) -> None:
    told = [
        pair(update, slot, prompt_id=prompt, margin=margin, conflicts=("VQ",) if disagree else ())
        for slot, (update, prompt, margin, disagree) in enumerate(drawn)
    ]

    async def check(folder: Path) -> None:
        store = await open_store(folder / "s")
        await (await Writer.begin(store)).tell(*told)
        found = await every(store, which, order=order, limit=limit)
        await store.close()
        assert found == [each.group_id for each in _sorted([*filter(which.takes, told)], order)]

    with tempfile.TemporaryDirectory(dir=QUICK) as folder:
        asyncio.run(check(Path(folder)))


def _sorted(matching: list[Pair], order: Order) -> list[Pair]:
    newest = sorted(matching, key=lambda each: (each.update, each.group_id), reverse=True)
    if order == "newest":
        return newest
    by_margin = sorted(matching, key=lambda each: (each.margin, each.update, each.group_id))
    return by_margin[::-1] if order == "largest_margin" else by_margin
