from dataclasses import replace

import pytest

from cluster.errors import LeaseLostError
from cluster.store.run_items import Dropped, Stage
from cluster.store.run_record import SILENT_AFTER_S, Run, Segment
from cluster.store.store import Store
from policies.errors import InputError
from tests.cluster.store.conftest import ManualClock
from tests.cluster.store.run_parts import ORIGIN, Writer, curve, line, pair, swap


async def the_run(store: Store, run_id: str = "demo") -> Run:
    run = await store.runs.get(run_id)
    assert run is not None
    return run


async def test_a_run_goes_from_queued_over_running_to_completed(store: Store, other: Store, clock: ManualClock) -> None:
    run = await store.runs.create(ORIGIN)
    assert (run.state, run.owner, run.created_at, run.attempt) == ("queued", "ada", clock.now, 0)
    clock.advance(1)
    writer = await Writer.begin(other)
    running = await the_run(store)
    assert (running.state, running.started_at, running.attempt, running.last_update) == ("running", clock.now, 1, -1)
    clock.advance(1)
    await writer.tell(Stage(name="train"), line(0, loss=0.7))
    telling = await the_run(store)
    assert (telling.stage, telling.last_update, telling.heartbeat_at) == ("train", 0, clock.now)
    clock.advance(1)
    ended = await other.runs.end("demo", writer.token, "completed")
    assert (ended.state, ended.ended_at, ended.stage) == ("completed", clock.now, None)
    assert await the_run(store) == ended


async def test_a_run_created_twice_is_one_run(store: Store, other: Store) -> None:
    assert await store.runs.create(ORIGIN) == await other.runs.create(ORIGIN)
    assert len((await store.runs.page()).items) == 1


@pytest.mark.parametrize("taken", [replace(ORIGIN, owner="bob"), replace(ORIGIN, config_digest="bad")])
async def test_an_id_that_is_taken_is_refused(store: Store, taken: object) -> None:
    await store.runs.create(ORIGIN)
    with pytest.raises(InputError, match="is taken"):
        await store.runs.create(taken)  # type: ignore[arg-type]


async def test_a_run_of_another_directory_cannot_be_told_of(store: Store) -> None:
    await Writer.begin(store)
    with pytest.raises(InputError, match="is taken by the run in runs/demo"):
        await Writer.begin(store, origin=replace(ORIGIN, run_dir="elsewhere/demo"))


async def test_a_beginning_that_is_said_twice_is_one_attempt(store: Store, other: Store) -> None:
    first = await store.runs.begin(ORIGIN, token="t", first_update=0)
    assert await other.runs.begin(ORIGIN, token="t", first_update=0) == first
    assert (await the_run(store)).attempts == (0,)


async def test_runs_are_listed_newest_first_for_all_and_for_each_owner(store: Store, clock: ManualClock) -> None:
    for run_id, owner in (("a", "ada"), ("b", "bob"), ("c", "ada")):
        await store.runs.create(replace(ORIGIN, run_id=run_id, owner=owner))
        clock.advance(1)
    assert [run.id for run in (await store.runs.page()).items] == ["c", "b", "a"]
    first = await store.runs.page("ada", limit=1)
    second = await store.runs.page("ada", limit=1, cursor=first.next_cursor)
    assert [run.id for run in [*first.items, *second.items]] == ["c", "a"]
    assert second.next_cursor is None


async def test_a_fork_remembers_where_it_comes_from(store: Store) -> None:
    await store.runs.create(replace(ORIGIN, run_id="fork", forked_from="demo"))
    await store.runs.begin(replace(ORIGIN, run_id="fork"), token="t", first_update=0)
    assert (await the_run(store, "fork")).forked_from == "demo"


async def test_a_former_writer_is_refused_and_writes_nothing(store: Store, other: Store) -> None:
    old = await Writer.begin(store)
    await old.tell(line(0, loss=1.0))
    new = await Writer.begin(other, first_update=1)
    with pytest.raises(LeaseLostError, match="by another writer, as its attempt 2"):
        await old.tell(line(1, loss=9.0), pair(1), swap(1))
    with pytest.raises(LeaseLostError):
        await store.runs.end("demo", old.token, "failed")
    await new.tell(line(1, loss=2.0))
    assert await curve(store, "loss") == {0: 1.0, 1: 2.0}
    assert await store.events.read("demo") == []


async def test_a_run_that_is_not_known_cannot_be_told_of(store: Store) -> None:
    with pytest.raises(LeaseLostError, match="not in the store"):
        await store.runs.tell("demo", "t")
    assert await store.runs.get("demo") is None
    assert await store.metrics.read("demo") is None
    assert await store.events.read("demo") == []
    assert (await store.pairs.page("demo")).items == []


async def test_a_stopped_run_runs_again_and_a_completed_one_does_not(store: Store) -> None:
    first = await Writer.begin(store)
    await first.tell(line(0, loss=1.0), line(1, loss=1.0))
    await store.runs.end("demo", first.token, "stopped")
    again = await Writer.begin(store, first_update=2)
    run = await the_run(store)
    assert (run.state, run.ended_at, run.attempts, again.begun.first_update) == ("running", None, (0, 2), 2)
    await store.runs.end("demo", again.token, "completed")
    assert (await Writer.begin(store, first_update=2)).begun.first_update is None
    assert (await the_run(store)).state == "completed"


async def test_a_canceled_run_stays_canceled_but_is_told_to_its_end(store: Store) -> None:
    writer = await Writer.begin(store)
    canceled = await store.runs.cancel("demo")
    assert canceled is not None and canceled.state == "canceled"
    await writer.tell(line(0, loss=1.0))
    assert (await store.runs.end("demo", writer.token, "stopped")).state == "canceled"
    assert await curve(store, "loss") == {0: 1.0}
    assert await store.runs.cancel("nobody") is None


async def test_the_beginning_says_which_lines_the_store_lacks(store: Store) -> None:
    writer = await Writer.begin(store)
    await writer.tell(line(0, loss=1.0), line(1, loss=1.0))
    resumed = await Writer.begin(store, first_update=5)
    assert resumed.begun.first_update == 2
    wiped = await Writer.begin(store, first_update=7, origin=replace(ORIGIN, run_id="other"))
    assert wiped.begun.first_update == 0


async def test_telling_again_changes_nothing(store: Store) -> None:
    writer = await Writer.begin(store)
    told = writer.numbered([line(0, loss=1.0), swap(0), pair(0), Dropped(points=3)])
    for _ in range(2):
        await store.runs.tell("demo", writer.token, told)
    await store.runs.tell("demo", writer.token, [*told, *writer.numbered([line(1, loss=2.0), swap(1)])])
    assert await curve(store, "loss") == {0: 1.0, 1: 2.0}
    assert [event.id for event in await store.events.read("demo")] == [1, 2]
    assert [each.group_id for each in (await store.pairs.page("demo")).items] == ["u000000-p000"]
    assert (await the_run(store)).dropped_points == 3


async def test_a_run_that_is_not_heard_of_is_silent(store: Store, clock: ManualClock) -> None:
    writer = await Writer.begin(store)
    clock.advance(SILENT_AFTER_S + 1)
    assert (await the_run(store)).is_silent(clock.now)
    await store.runs.tell("demo", writer.token)
    assert not (await the_run(store)).is_silent(clock.now)
    await store.runs.end("demo", writer.token, "failed")
    clock.advance(SILENT_AFTER_S + 1)
    assert not (await the_run(store)).is_silent(clock.now)


async def test_a_rewrite_keeps_the_state_and_frees_what_it_replaces(store: Store) -> None:
    writer = await Writer.begin(store)
    await writer.tell(line(0, loss=1.0), pair(0), pair(0, 1), swap(0))
    await store.runs.end("demo", writer.token, "completed")
    begun = await store.runs.begin(ORIGIN, token="r", first_update=0, is_rewrite=True)
    again = Writer(store, begun, "r")
    await again.tell(line(0, loss=2.0), pair(0, margin=5.0))
    await store.runs.forget_earlier_attempts("demo")
    assert (await the_run(store)).state == "completed"
    assert await curve(store, "loss") == {0: 2.0}
    assert [each.margin for each in (await store.pairs.page("demo")).items] == [5.0]
    assert [each.margin for each in (await store.pairs.page("demo", order="largest_margin")).items] == [5.0]


async def test_what_is_forgotten_leaves_nothing(store: Store) -> None:
    writer = await Writer.begin(store)
    for update in range(3):
        await writer.tell(line(600 * update, loss=1.0), pair(update, conflicts=("VQ",)), swap(update))
    await store.runs.forget("demo")
    assert await store.runs.get("demo") is None and (await store.runs.page()).items == []
    again = await Writer.begin(store)
    await again.tell(line(1300, loss=3.0))
    assert await curve(store, "loss") == {1300: 3.0}
    assert await store.events.read("demo") == [] and (await store.pairs.page("demo")).items == []
    await store.runs.forget("nobody")


@pytest.mark.parametrize(
    ("attempts", "last", "segments"),
    [
        ((), -1, []),
        ((0,), -1, []),
        ((0,), 9, [(1, 0, 10)]),
        ((0, 4), 9, [(1, 0, 4), (2, 4, 10)]),
        ((0, 4, 2), 9, [(1, 0, 2), (3, 2, 10)]),
        ((0, 4, 0), 9, [(3, 0, 10)]),
        ((0, 4), 3, [(1, 0, 4)]),
    ],
)
def test_the_updates_that_count_are_those_of_the_latest_attempt_that_has_them(
    attempts: tuple[int, ...], last: int, segments: list[tuple[int, int, int]]
) -> None:
    run = Run(id="r", owner="o", state="running", created_at=0.0, attempts=attempts, last_update=last)
    assert run.segments() == [Segment(*each) for each in segments]
    for segment in run.segments():
        for update in range(segment.first, segment.end):
            assert not run.is_void(segment.attempt, update)
            assert all(run.is_void(earlier, update) for earlier in range(1, segment.attempt))
