"""What runs need of a backend beyond records and indexes."""

import uuid
from collections.abc import AsyncIterator

import pytest

from cluster.store.records import Change, Entry, Numbered, Records, Splice
from tests.cluster.store.conftest import Place


@pytest.fixture
async def records(place: Place) -> AsyncIterator[Records]:
    store = await place.open()
    yield store._records
    await store.close()


async def write(records: Records, change: Change[None]) -> None:
    await records.change(["k"], change.regardless)


async def test_a_splice_replaces_bytes_and_fills_what_lies_before_with_zeros(records: Records) -> None:
    await write(records, Change(answer=None, splice=[Splice("k", 2, b"ab")]))
    assert await records.read(["k"]) == [b"\0\0ab"]
    await write(records, Change(answer=None, splice=[Splice("k", 3, b"xyz"), Splice("k", 0, b"1")]))
    assert await records.read(["k"]) == [b"1\0axyz"]
    await write(records, Change(answer=None, put=[("k", b"new")], splice=[Splice("k", 1, b"O")]))
    assert await records.read(["k"]) == [b"nOw"]


async def test_series_are_read_in_order_from_any_number(records: Records) -> None:
    name = uuid.uuid4().hex
    await write(records, Change(answer=None, append=[Numbered(name, 2, b"two"), Numbered(name, 10, b"\0ten")]))
    await write(records, Change(answer=None, append=[Numbered(name, 11, b"")]))
    assert await records.read_series(name, limit=10) == [(2, b"two"), (10, b"\0ten"), (11, b"")]
    assert await records.read_series(name, after=2, limit=1) == [(10, b"\0ten")]
    assert await records.read_series(name, after=11, limit=10) == []
    assert await records.read_series("unknown", limit=10) == []
    await write(records, Change(answer=None, erase=[name], append=[Numbered(name, 1, b"again")]))
    assert await records.read_series(name, limit=10) == [(1, b"again")]


async def test_a_refused_decision_writes_nothing(records: Records) -> None:
    from policies.errors import InputError

    def decide(values: object, now: float) -> Change[None]:
        raise InputError("no")

    with pytest.raises(InputError):
        await records.change(["k"], decide)
    assert await records.read(["k"]) == [None]
    everything: Change[None] = Change(
        answer=None, drop=["a"], put=[("b", b"1")], splice=[Splice("c", 0, b"1")], leave=[Entry("i", "a")],
        enter=[Entry("i", "b")], erase=["s"], append=[Numbered("s", 1, b"1")],
    )  # fmt: skip
    assert everything.writes and not Change(answer=None).writes
