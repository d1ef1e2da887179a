import sqlite3
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.log_spool import Entry, Spool, SpoolLimits

ROOMY = SpoolLimits()


def bodies(entries: list[Entry]) -> list[bytes]:
    return [entry.body for entry in entries]


def test_what_was_said_comes_out_in_order_and_stays_until_it_is_done(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "s", ROOMY)
    for number in range(6):
        spool.push(b"%d" % number, points=number % 2)
    assert bodies(spool.take(4)) == bodies(spool.take(4)) == [b"0", b"1", b"2", b"3"]
    spool.done(spool.take(4)[-1].position)
    assert bodies(spool.take(4)) == [b"4", b"5"] and not spool.is_empty
    spool.done(spool.take(4)[-1].position)
    assert spool.is_empty and spool.take(4) == []
    assert not (tmp_path / "s").exists()


def test_what_lies_on_the_disk_comes_before_what_was_said_later(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "s", ROOMY)
    spool.push(b"0", points=1)
    spool.push(b"1")
    spool.spill()
    spool.push(b"2", points=1)
    assert bodies(spool.take(9)) == [b"0", b"1"]
    spool.done(spool.take(9)[-1].position)
    assert bodies(spool.take(9)) == [b"2"]
    spool.close()
    assert not (tmp_path / "s").exists()


def test_a_full_memory_gives_up_the_oldest_points_and_no_event(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "s", SpoolLimits(memory=100, disk=1000))
    spool.push(b"e" * 10)
    for number in range(20):
        spool.push(b"%010d" % number, points=3)
    kept = spool.take(99)
    assert bodies(kept) == [b"e" * 10, *(b"%010d" % number for number in range(11, 20))]
    assert spool.lost() == (3 * 11, 0) and spool.lost() == (0, 0)


def test_points_given_up_while_they_are_sent_are_lost_only_if_they_do_not_arrive(tmp_path: Path) -> None:
    for arrives, lost in ((True, 0), (False, 3)):
        spool = Spool(tmp_path / "s", SpoolLimits(memory=20, disk=1000))
        spool.push(b"1" * 10, points=3)
        position = spool.take(1)[-1].position
        spool.push(b"2" * 15, points=5)
        if arrives:
            spool.done(position)
        assert bodies(spool.take(9)) == [b"2" * 15] and spool.lost() == (lost, 0)


def test_a_full_disk_gives_up_the_oldest_points_before_any_event(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "s", SpoolLimits(memory=1000, disk=50))
    for number in range(4):
        spool.push(b"%010d" % number)
        spool.push(b"p%09d" % number, points=2)
    spool.spill()
    assert bodies(spool.take(99)) == [b"%010d" % 0, b"%010d" % 1, b"%010d" % 2, b"%010d" % 3, b"p%09d" % 3]
    assert spool.lost() == (6, 0)
    for number in range(4, 7):
        spool.push(b"%010d" % number)
    spool.spill()
    assert bodies(spool.take(99)) == [b"%010d" % number for number in range(2, 7)]
    assert spool.lost() == (2, 2)


def test_what_a_former_process_left_is_handed_out_without_its_points(tmp_path: Path) -> None:
    former = Spool(tmp_path / "s", ROOMY)
    former.push(b"points", points=1)
    former.push(b"event")
    former.spill()
    former.close()
    spool = Spool(tmp_path / "s", ROOMY)
    assert spool.left_behind() == [b"event"] and spool.left_behind() == [] and spool.is_empty
    spool.close()
    assert Spool(tmp_path / "s", ROOMY).left_behind() == []


def test_a_disk_that_cannot_be_written_leaves_everything_in_memory(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "missing" / "s", ROOMY)
    spool.push(b"event")
    with pytest.raises(sqlite3.Error):
        spool.spill()
    assert bodies(spool.take(9)) == [b"event"]


steps = st.lists(st.one_of(st.integers(0, 3), st.sampled_from(["spill", "take"])), max_size=60)


@given(steps)
def test_nothing_is_lost_uncounted_doubled_or_out_of_order(steps: list[int | str]) -> None:
    import tempfile

    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
        spool = Spool(Path(folder) / "s", SpoolLimits(memory=12, disk=20))
        said, taken = list[bytes](), list[Entry]()
        for step in steps:
            if step == "spill":
                spool.spill()
            elif step == "take":
                taken += (some := spool.take(2))
                spool.done(some[-1].position if some else 0)
            else:
                said.append(b"%03d" % len(said))
                spool.push(said[-1], points=int(step))
        while some := spool.take(2):
            taken += some
            spool.done(some[-1].position)
        lost_points, lost_others = spool.lost()
        spool.close()
    assert bodies(taken) == sorted(set(bodies(taken))) and set(bodies(taken)) <= set(said)
    points = sum(int(step) for step in steps if isinstance(step, int))
    others = sum(step == 0 for step in steps)
    assert sum(entry.points for entry in taken) + lost_points == points
    assert sum(entry.points == 0 for entry in taken) + lost_others == others
