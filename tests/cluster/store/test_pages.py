import asyncio
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.store.open import open_store
from cluster.store.store import Store
from policies.errors import InputError
from tests.cluster.store.conftest import ManualClock, Place


@pytest.mark.parametrize("cursor", ["", "%%%", "é", "AA==", "a", "_w", "AAAA"])
async def test_a_cursor_from_elsewhere_is_refused(store: Store, cursor: str) -> None:
    with pytest.raises(InputError, match="was not given out by this service"):
        await store.jobs.page("ada", cursor=cursor)


@pytest.mark.parametrize("limit", [0, -1, 1001])
async def test_a_page_has_a_size(store: Store, limit: int) -> None:
    with pytest.raises(InputError, match="1 to 1000"):
        await store.files.page("ada", limit=limit)


async def test_a_page_that_is_just_full_is_the_last(store: Store) -> None:
    for _ in range(4):
        await store.jobs.create(owner="ada", request=b"{}")
    first = await store.jobs.page("ada", limit=2)
    second = await store.jobs.page("ada", limit=2, cursor=first.next_cursor)
    assert (len(first.items), len(second.items), second.next_cursor) == (2, 2, None)
    assert (await store.jobs.page("bob")).items == []


async def _paging(open_one: Callable[[], Awaitable[Store]], before: int, limit: int, between: list[int]) -> None:
    """Every job that was there at the start is seen once, however many are added between the pages."""
    store = await open_one()
    owner = f"{before}-{limit}-{between}"
    there = [(await store.jobs.create(owner=owner, request=b"{}")).id for _ in range(before)]
    seen: list[str] = []
    cursor, added = None, iter(between)
    while True:
        page = await store.jobs.page(owner, cursor=cursor, limit=limit)
        seen += [job.id for job in page.items]
        if (cursor := page.next_cursor) is None:
            break
        for _ in range(next(added, 0)):
            await store.jobs.create(owner=owner, request=b"{}")
    assert seen == there[::-1]
    await store.close()


@settings(max_examples=12)
@given(before=st.integers(0, 12), limit=st.integers(1, 5), between=st.lists(st.integers(0, 3), max_size=4))
def test_paging_sees_everything_once_under_inserts(before: int, limit: int, between: list[int]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(_paging(lambda: open_store(Path(folder) / "s"), before, limit, between))


async def test_paging_sees_everything_once_under_inserts_on_each_backend(place: Place) -> None:
    await _paging(lambda: place.open(ManualClock()), 25, 4, [3, 0, 1, 2, 5, 1])
