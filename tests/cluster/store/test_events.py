from cluster.store.run_items import Happened
from cluster.store.store import Store
from tests.cluster.store.run_parts import Writer, line, swap


async def test_events_are_numbered_without_a_gap_and_read_from_any_of_them(store: Store, other: Store) -> None:
    writer = await Writer.begin(store)
    await writer.tell(swap(1), line(1, loss=1.0), swap(2))
    await writer.tell(Happened(what="alarm", code="collapse", text="diversity halved", update=2, at=5.0))
    events = await other.events.read("demo")
    assert [event.id for event in events] == [1, 2, 3]
    assert events[2].happened == Happened(what="alarm", code="collapse", text="diversity halved", update=2, at=5.0)
    assert [event.id for event in await store.events.read("demo", after=1)] == [2, 3]
    assert [event.id for event in await store.events.read("demo", after=1, limit=1)] == [2]
    assert await store.events.read("demo", after=3) == []
    assert [event.id for event in await store.events.read("demo", after=-7)] == [1, 2, 3]


async def test_events_of_updates_that_were_done_again_are_void_and_others_stay(store: Store) -> None:
    first = await Writer.begin(store)
    await first.tell(*(line(update, loss=1.0) for update in range(6)))
    await first.tell(swap(1), swap(5), Happened(what="note", text="a generator died"))
    second = await Writer.begin(store, first_update=4)
    await second.tell(Happened(what="resumed", text="at update 4", update=4), swap(5))
    found = [(event.id, event.attempt, event.is_void) for event in await store.events.read("demo")]
    assert found == [(1, 1, False), (2, 1, True), (3, 1, False), (4, 2, False), (5, 2, False)]
