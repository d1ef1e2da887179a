"""Samples of the proofs of tests/evidence/serving, all of them on one server, over HTTP."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.evidence.serving import bad_items, bombs, connections, foreign, mutated, restarts, secrets_kept
from tests.evidence.serving.target import Target
from tests.services.serving.running_server import RunningServer

pytestmark = [pytest.mark.ray, pytest.mark.slow]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    running = RunningServer(tmp_path_factory.mktemp("hostile"))
    running.start()
    yield running
    running.close()


@pytest.fixture
def target(server: RunningServer) -> Iterator[Target]:
    """Whatever is done to it, it lives on, says nothing that it should not, and keeps no descriptors."""
    reached = Target.of(server)
    yield reached
    assert server.process.poll() is None
    assert not reached.leaks and not reached.server_errors and not reached.unanswered


async def test_mutated_clips_cost_the_whole_ones_nothing(target: Target) -> None:
    found = await mutated.run(target, mutated=480, valid=20)
    assert found["valid"] == {"scored": 20} and found["failures_of_the_service"] == 0
    assert found["after"]["fds"] <= found["before"]["fds"] + 4


async def test_bombs_are_refused_whatever_their_headers_say(target: Target) -> None:
    rows = await bombs.run(target, rounds=1)
    assert len(rows) == 10 and max(row["growth_mib_max"] for row in rows) < 64
    refusals = {code for row in rows for code in row["outcome"]}
    assert refusals == {"video_frame_too_large", "video_decoded_too_large", "video_damaged"}


async def test_twenty_bad_items_of_256_are_twenty_problems_in_their_places(target: Target) -> None:
    rows = await bad_items.run(target)
    assert [(row["scored"], row["problems"], row["in_order"]) for row in rows] == [(236, 20, True)] * 3


async def test_playlists_protocols_and_other_formats_are_refused_and_nothing_is_opened(target: Target) -> None:
    found = await foreign.run(target)
    assert found["taken"] == [] and found["payloads"] > 150


async def test_other_callers_go_on_while_connections_are_misused(target: Target) -> None:
    quick = (connections.slow_bodies, connections.pipelined, connections.half_closed, connections.reset)
    rows = await connections.run(target, attacks=quick, scale=0.05)
    assert [row["others_failed"] for row in rows] == [0] * len(quick)
    assert max(row["server_errors"] for row in rows) == 0
    assert max(row["fds_after"] - row["fds_before"] for row in rows) <= 2


async def test_what_callers_send_is_nowhere_to_be_found(server: RunningServer) -> None:
    found = await secrets_kept.run(server)
    assert (found["leaks"], found["files_with_the_key"], found["logs_with_a_prompt"]) == ([], [], [])


def test_what_was_acknowledged_before_a_kill_is_done_once_after_it(server: RunningServer) -> None:
    found = restarts.run(server, jobs=12, items=32)
    assert (found["processes_left"], found["ports_left"]) == (0, 0)
    assert found["same_job_for_the_same_key"] == found["acknowledged"] >= 6
    assert found["same_answer_for_the_same_key"] == found["answered_at_once"]
    assert found["ended_once"] == found["whole_results"] == found["jobs_more"] == 12
