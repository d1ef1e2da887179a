import asyncio
from typing import Any

from cluster.store.store import Store
from tests.cluster.store.conftest import ManualClock

FACTS = {"container": "mp4", "codec": "h264", "frames": 16, "fps": 8.0, "audio": None}


def sha(number: int) -> str:
    return f"{number:064x}"


async def put(store: Store, number: int, owner: str = "ada", **other: Any) -> bool:
    facts = {"size": 5, "media_type": "video/mp4", "facts": FACTS} | other
    _, was_there = await store.files.put(owner=owner, sha256=sha(number), **facts)
    return was_there


async def test_a_file_is_entered_once_whoever_uploads_it(store: Store, other: Store, clock: ManualClock) -> None:
    assert not await put(store, 1)
    clock.advance(1)
    assert await put(other, 1, owner="bob", size=7)
    assert await put(store, 1)
    file = await other.files.get(sha(1))
    assert file is not None and (file.size, file.media_type, file.facts) == (5, "video/mp4", FACTS)
    assert file.created_at == clock.now - 1 and set(file.owners) == {"ada", "bob"}
    assert await store.files.get(sha(2)) is None


async def test_what_is_learned_of_a_file_later_is_added_and_nothing_is_replaced(store: Store, other: Store) -> None:
    await put(store, 1, facts={"container": "mp4"})
    await put(other, 1, owner="bob", facts=FACTS | {"container": "webm"})
    await put(store, 1, facts={"late": 1, "frames": 17})
    file = await other.files.get(sha(1))
    assert file is not None and file.facts == FACTS | {"late": 1} and set(file.owners) == {"ada", "bob"}
    assert len((await store.files.page("ada")).items) == 1


async def test_of_many_puts_at_once_one_is_the_first(store: Store, other: Store) -> None:
    flags = await asyncio.gather(*(put(each, 1, owner=f"o{n % 7}") for n, each in enumerate([store, other] * 7)))
    assert sorted(flags) == [False] + [True] * 13
    file = await store.files.get(sha(1))
    assert file is not None and len(file.owners) == 7


async def test_owners_see_their_own_files_newest_first(store: Store, clock: ManualClock) -> None:
    for number in range(5):
        await put(store, number, owner="bob" if number == 2 else "ada")
        clock.advance(1)
    first = await store.files.page("ada", limit=3)
    second = await store.files.page("ada", limit=3, cursor=first.next_cursor)
    assert [file.sha256 for file in (*first.items, *second.items)] == [sha(number) for number in (4, 3, 1, 0)]
    assert second.next_cursor is None


async def test_bytes_may_go_when_the_last_owner_deletes_the_file(store: Store, other: Store) -> None:
    await put(store, 1)
    await put(store, 1, owner="bob")
    assert not await store.files.delete(owner="eve", sha256=sha(1))
    assert not await store.files.delete(owner="ada", sha256=sha(1))
    assert (await store.files.page("ada")).items == []
    is_last = await asyncio.gather(*(each.files.delete(owner="bob", sha256=sha(1)) for each in [store, other]))
    assert sorted(is_last) == [False, True]
    assert await store.files.get(sha(1)) is None
    assert (await store.files.page("bob")).items == []
    assert not await put(store, 1)
