import asyncio
import contextlib
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pytest

from cluster.log_spool import SpoolLimits
from cluster.observer import Observers, SilentObserver
from cluster.reindex import reindex_run
from cluster.run_directory import RunDirectory
from cluster.run_log import SPOOL, Alarm, RunLog
from cluster.store.open import open_store
from cluster.store.pairs import PairFilter
from cluster.store.run_record import Run
from cluster.store.store import Store
from tests.cluster.store.conftest import QUICK
from tests.cluster.store.server import Server
from tests.cluster.written_run import new_run, write_samples, write_update, write_validation, written_config

T = TypeVar("T")

WAIT_LIMIT_S = 30.0


@dataclass(frozen=True)
class Ended:
    run_dir: Path
    ended: str = "completed"
    updates: int = 0
    seconds: Mapping[str, float] = None  # type: ignore[assignment]
    test: Mapping[str, Any] | None = None


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=QUICK) as name:
        yield Path(name)


@pytest.fixture
def address(folder: Path) -> str:
    return str(folder / "store.sqlite")


def log_of(address: str, said: list[str] | None = None, **options: Any) -> RunLog:
    say = (lambda text: None) if said is None else said.append
    return RunLog(address, say=say, interval_s=0.01, deadline_s=options.pop("deadline_s", 5.0), **options)


def tell(log: RunLog, directory: RunDirectory, first: int, end: int) -> None:
    for update in range(first, end):
        log.on_update(write_update(directory, update))


def ask(address: str, question: Callable[[Store], Awaitable[T]]) -> T:
    async def asked() -> T:
        store = await open_store(address, deadline_s=20.0)
        try:
            return await question(store)
        finally:
            await store.close()

    return asyncio.run(asked())


def run_of(address: str) -> Run:
    run = ask(address, lambda store: store.runs.get("demo"))
    assert run is not None
    return run


def rewards(address: str) -> dict[int, float]:
    found = ask(address, lambda store: store.metrics.read("demo", ["reward_mean"]))
    assert found is not None
    points = found.curves.get("reward_mean")
    return {} if points is None else dict(zip(points.updates.tolist(), points.values.tolist(), strict=True))


def events(address: str) -> list[tuple[str, int | None]]:
    """Those that count."""
    found = ask(address, lambda store: store.events.read("demo", limit=1000))
    return [(event.happened.what, event.happened.update) for event in found if not event.is_void]


def codes(address: str) -> set[str | None]:
    return {event.happened.code for event in ask(address, lambda store: store.events.read("demo", limit=1000))}


def pair_ids(address: str) -> list[str]:
    page = ask(address, lambda store: store.pairs.page("demo", limit=1000))
    return sorted(pair.group_id for pair in page.items)


def expected_rewards(end: int) -> dict[int, float]:
    return {update: update / 10 for update in range(end)}


def expected_pairs(end: int) -> list[str]:
    return [f"u{update:06d}-p{slot:03d}" for update in range(end) for slot in range(2)]


def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + WAIT_LIMIT_S
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.01)


@contextlib.contextmanager
def running(*options: str) -> Iterator[Server]:
    server = Server(*options)
    try:
        yield server
    finally:
        server.close()


def test_a_run_is_told_from_start_to_end(folder: Path, address: str) -> None:
    directory = new_run(folder)
    with log_of(address, owner="ada", forked_from="parent") as log:
        log.on_start(directory.path, written_config(), 0)
        log.on_stage("train")
        tell(log, directory, 0, 6)
        log.on_update(write_update(directory, 6, loss=None))
        log.on_validation(write_validation(directory, 7))
        log.on_commit(7)
        log.on_event("a generator died and was replaced")
        write_samples(directory, 7)
        log.on_end(Ended(directory.path))
    run = run_of(address)
    assert (run.state, run.owner, run.forked_from, run.updates, run.last_update) == ("completed", "ada", "parent", 1000,
                                                                                     6)  # fmt: skip
    assert rewards(address) == expected_rewards(7)
    assert events(address) == [("swap", 5), ("skipped", 6), ("note", 6)]
    assert pair_ids(address) == expected_pairs(6)
    found = ask(address, lambda store: store.metrics.read("demo", ["loss", "validation.reward_mean"]))
    assert found is not None and found.curves["loss"].updates.tolist() == list(range(6))
    assert found.curves["validation.reward_mean"].values.tolist() == [0.75]
    conflicting = ask(address, lambda store: store.pairs.page("demo", PairFilter(conflict="MQ"), limit=99))
    assert {pair.prompt_id for pair in conflicting.items} == {"prompt-1"}
    assert [sample.policy_version for sample in ask(address, lambda store: store.samples.page("demo")).items] == [7, 0]
    assert not (directory.path / SPOOL).exists()


@pytest.mark.parametrize(
    ("ended", "state"), [("completed", "completed"), ("early_stop", "completed"), ("stopped_sigint", "stopped")]
)
def test_the_end_says_how_it_was(folder: Path, address: str, ended: str, state: str) -> None:
    directory = new_run(folder)
    with log_of(address) as log:
        log.on_start(directory.path, written_config(), 0)
        log.on_end(Ended(directory.path, ended))
    assert run_of(address).state == state


def test_a_run_that_raises_has_failed(folder: Path, address: str) -> None:
    directory = new_run(folder)
    with pytest.raises(ZeroDivisionError), log_of(address) as log:
        log.on_start(directory.path, written_config(), 0)
        tell(log, directory, 0, 2)
        raise ZeroDivisionError
    assert run_of(address).state == "failed" and rewards(address) == expected_rewards(2)


def test_a_resumed_run_takes_the_place_of_what_lies_above_its_commit(folder: Path, address: str) -> None:
    directory = new_run(folder)
    with log_of(address) as log:
        log.on_start(directory.path, written_config(), 0)
        tell(log, directory, 0, 9)
        log.on_end(Ended(directory.path, "stopped_sigterm"))
    directory.cut_metrics(updates=4)
    with log_of(address) as log:
        log.on_start(directory.path, written_config(), 4)
        tell(log, directory, 4, 7)
        log.on_end(Ended(directory.path))
    assert rewards(address) == expected_rewards(7) and pair_ids(address) == expected_pairs(7)
    assert events(address) == [("resumed", 4), ("swap", 5)]
    assert run_of(address).state == "completed"


def test_what_a_killed_run_had_not_told_is_read_from_its_directory(folder: Path, address: str) -> None:
    directory = new_run(folder)
    for update in range(5):
        write_update(directory, update)
    with log_of(address) as log:
        log.on_start(directory.path, written_config(), 5)
        tell(log, directory, 5, 8)
    assert rewards(address) == expected_rewards(8) and pair_ids(address) == expected_pairs(8)
    assert events(address) == [("resumed", 5), ("swap", 5)]


def test_a_completed_run_that_is_resumed_changes_nothing(folder: Path, address: str) -> None:
    directory = new_run(folder)
    for _ in range(2):
        with log_of(address) as log:
            log.on_start(directory.path, written_config(), 0)
            log.on_end(Ended(directory.path))
    run = run_of(address)
    assert (run.state, run.attempt) == ("completed", 1)


def test_a_store_that_is_away_for_a_while_has_everything_afterwards(folder: Path) -> None:
    directory, said = new_run(folder), list[str]()
    with running("--appendonly", "yes", "--appendfsync", "always") as server:
        server.kill()
        with log_of(server.url, said, deadline_s=1.0) as log:
            log.on_start(directory.path, written_config(), 0)
            tell(log, directory, 0, 20)
            until(lambda: bool(said), "the log to notice")
            server.restart()
            until(lambda: len(said) > 1, "the log to notice again")
            server.kill()
            tell(log, directory, 20, 40)
            until(lambda: len(said) > 2, "the log to notice a third time")
            server.restart()
            log.on_end(Ended(directory.path))
        assert rewards(server.url) == expected_rewards(40)
        assert pair_ids(server.url) == expected_pairs(40)
        assert {"store_away", "store_back"} <= codes(server.url)
        assert [each for each in events(server.url) if each[0] == "swap"] == [("swap", n) for n in range(5, 40, 5)]
        assert (run_of(server.url).state, run_of(server.url).dropped_points) == ("completed", 0)
    assert "cannot be reached; the run goes on" in said[0] and said[1] == "the store is back"


def test_a_store_that_is_away_for_too_long_lacks_the_oldest_points_alone_and_knows_how_many(folder: Path) -> None:
    directory, said = new_run(folder), list[str]()
    with running() as server:
        server.kill()
        with log_of(server.url, said, deadline_s=1.0, limits=SpoolLimits(memory=20_000, disk=20_000)) as log:
            log.on_start(directory.path, written_config(), 0)
            until(lambda: bool(said), "the log to notice")
            tell(log, directory, 0, 150)
            server.restart()
            log.on_end(Ended(directory.path))
        kept = rewards(server.url)
        assert kept == {update: update / 10 for update in range(min(kept), 150)} and 0 < min(kept) < 150
        assert pair_ids(server.url) == expected_pairs(150)
        points_of_a_line = 8
        assert run_of(server.url).dropped_points == min(kept) * points_of_a_line
        assert "log_dropped" in codes(server.url)


def test_what_could_not_be_told_at_the_end_is_told_when_the_run_resumes(folder: Path) -> None:
    directory, said = new_run(folder), list[str]()
    with running() as server:
        server.kill()
        log = log_of(server.url, said, deadline_s=0.2)
        log.on_start(directory.path, written_config(), 0)
        tell(log, directory, 0, 3)
        log.on_event("only the log knows this")
        log._sender._pause_s = 0.0  # type: ignore[union-attr]
        log._sender.close("stopped", limit_s=0.2)  # type: ignore[union-attr]
        assert (directory.path / SPOOL).exists()
        server.restart()
        with log_of(server.url) as again:
            again.on_start(directory.path, written_config(), 3)
            again.on_end(Ended(directory.path))
        assert rewards(server.url) == expected_rewards(3) and pair_ids(server.url) == expected_pairs(3)
        assert events(server.url).count(("note", 2)) == 1
    assert not (directory.path / SPOOL).exists()


def test_a_store_that_was_lost_is_filled_again_by_the_run(folder: Path) -> None:
    directory = new_run(folder)
    with running() as server, log_of(server.url, deadline_s=1.0) as log:
        log.on_start(directory.path, written_config(), 0)
        tell(log, directory, 0, 10)
        until(lambda: len(log._spool.take(1)) == 0, "the log to tell")  # type: ignore[union-attr]
        server.kill()
        server.restart()  # it kept nothing
        tell(log, directory, 10, 12)
        log.on_end(Ended(directory.path))
        assert rewards(server.url) == expected_rewards(12) and pair_ids(server.url) == expected_pairs(12)
        assert run_of(server.url).state == "completed"


def test_a_run_that_is_indexed_while_it_goes_on_tells_the_rest_without_doubles(folder: Path, address: str) -> None:
    directory = new_run(folder)
    with log_of(address) as log:
        log.on_start(directory.path, written_config(), 0)
        tell(log, directory, 0, 10)
        ask(address, lambda store: reindex_run(store, directory.path))
        tell(log, directory, 10, 20)
        log.on_end(Ended(directory.path))
    assert rewards(address) == expected_rewards(20) and pair_ids(address) == expected_pairs(20)
    assert events(address) == [("swap", 5), ("swap", 10), ("swap", 15)]
    assert run_of(address).state == "completed"


@pytest.mark.parametrize("bad", ["mysql://host/db", "/proc/no/such/store.sqlite"])
def test_a_store_that_cannot_be_used_does_not_stop_the_run(folder: Path, bad: str) -> None:
    directory, said = new_run(folder), list[str]()
    with log_of(bad, said) as log:
        log.on_start(directory.path, written_config(), 0)
        tell(log, directory, 0, 5)
        until(lambda: bool(said), "the log to complain")
        log._sender.close("failed", limit_s=0.1)  # type: ignore[union-attr]
    assert len(said) == 1 and "store" in said[0]


def test_an_id_that_another_run_has_is_said_and_not_written(folder: Path, address: str) -> None:
    for parent, count in (("a", 2), ("b", 5)):
        directory, said = new_run(folder / parent), list[str]()
        with log_of(address, said) as log:
            log.on_start(directory.path, written_config(), 0)
            tell(log, directory, 0, count)
    assert len(said) == 1 and "is taken by the run in" in said[0]
    assert rewards(address) == expected_rewards(2)


def test_alarms_are_events_and_a_watch_that_fails_harms_nothing(folder: Path, address: str) -> None:
    def watch(line: Mapping[str, Any]) -> list[Alarm]:
        if line["update"] == 2:
            return [Alarm("collapse", "diversity halved")]
        return [] if line["update"] < 4 else [1 / 0]  # type: ignore[list-item]

    directory, said = new_run(folder), list[str]()
    with log_of(address, said, watch=watch) as log:
        log.on_start(directory.path, written_config(), 0)
        tell(log, directory, 0, 7)
    assert ("alarm", 2) in events(address) and codes(address) == {"collapse", None}
    assert rewards(address) == expected_rewards(7)
    assert len(said) == 1 and "ZeroDivisionError" in said[0]


def test_a_log_that_was_never_started_is_silent(address: str) -> None:
    with log_of(address) as log:
        log.on_stage("startup")
        log.on_event("before it began")
    assert not Path(address).exists()


def test_several_observers_are_told_in_turn(tmp_path: Path) -> None:
    heard: list[str] = []

    class Hears(SilentObserver):
        def __init__(self, name: str) -> None:
            self.name = name

        def on_stage(self, name: str) -> None:
            heard.append(f"{self.name} {name}")

        def on_update(self, line: Mapping[str, Any]) -> None:
            heard.append(f"{self.name} {line['update']}")

    both = Observers(Hears("a"), Hears("b"))
    both.on_start(tmp_path, written_config(), 0)
    both.on_stage("train")
    both.on_update({"update": 3})
    both.on_validation({})
    both.on_commit(1)
    both.on_event("x")
    both.on_end(Ended(tmp_path))
    assert heard == ["a train", "b train", "a 3", "b 3"]
