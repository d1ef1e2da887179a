"""All in virtual time: a fake model's batch takes one second unless a test says otherwise."""

import asyncio
import logging
import math
from collections.abc import Sequence

import pytest

from cluster.serving.values import BatchResult, FailureCode, ScoreItem, Scores
from services.scoring.batcher import Batcher
from services.scoring.model import Outcome, QueueFull
from services.serve_config import DeploymentConfig
from tests.services.scoring.fake_forward import FakeForward, item, items
from tests.services.scoring.virtual_time import all_of, now, run, steps


def batcher_of(forward: FakeForward, **config: int) -> Batcher:
    return Batcher(forward, DeploymentConfig(**config), clock=asyncio.get_running_loop().time)


def rewards(outcomes: Sequence[Outcome]) -> list[int | str]:
    """The number of each item that was scored, and why the others were not."""
    return [int(o.result.reward) if isinstance(o.result, Scores) else o.result.code.value for o in outcomes]


def test_a_lone_item_reaches_the_model_in_three_steps_of_the_loop_and_its_caller_three_after_it_is_done() -> None:
    class Immediate(FakeForward):
        async def run(self, items: Sequence[ScoreItem], *, deadline: float) -> BatchResult:
            self.batches.append([int(one.prompt) for one in items])
            return await super().compute(items)

    async def main() -> None:
        forward = Immediate(a=0)
        batcher = batcher_of(forward)
        task = asyncio.create_task(batcher.score([item(7)], caller="a", deadline=9))
        await steps(3)  # its own first one, the start of batches, the batch's first one
        assert forward.batches == [[7]]
        await steps(3)  # the model's own one, the batch's end, the caller's
        assert task.done() and rewards(task.result()) == [7]
        assert now() == 0

    run(main)


def test_what_queued_while_a_batch_ran_goes_together() -> None:
    async def main() -> None:
        forward = FakeForward()
        batcher = batcher_of(forward)
        first = asyncio.create_task(batcher.score([item(0)], caller="a", deadline=9))
        await steps(3)
        await all_of(first, *(batcher.score([item(n)], caller="a", deadline=9) for n in range(1, 20)))
        assert forward.batches == [[0], list(range(1, 20))]
        assert now() == 2

    run(main)


def test_what_comes_in_one_turn_of_the_loop_goes_together() -> None:
    async def main() -> None:
        forward = FakeForward()
        batcher = batcher_of(forward)
        await all_of(*(batcher.score([item(n)], caller="a", deadline=9) for n in range(20)))
        assert forward.batches == [list(range(20))]

    run(main)


def test_a_full_batch_is_sent_ahead_and_a_smaller_one_is_not() -> None:
    async def main() -> None:
        forward = FakeForward()
        batcher = batcher_of(forward, batch_items=4)
        first = asyncio.create_task(batcher.score(items(range(4)), caller="a", deadline=9))
        await steps(3)
        second = asyncio.create_task(batcher.score(items(range(4, 7)), caller="a", deadline=9))
        await steps(3)
        assert forward.batches == [[0, 1, 2, 3]]
        third = asyncio.create_task(batcher.score(items(range(7, 20)), caller="a", deadline=9))
        await steps(3)
        assert forward.batches == [[0, 1, 2, 3], [4, 5, 6, 7]]
        await all_of(first, second, third)
        assert forward.most_in_flight == 2

    run(main)


def test_where_the_hop_takes_longer_than_the_model_a_few_items_are_sent_ahead() -> None:
    class FarAway(FakeForward):
        """The model needs a tenth of a second, the way to it a whole one."""

        async def compute(self, items: Sequence[ScoreItem]) -> BatchResult:
            await asyncio.sleep(1.0)
            return await super().compute(items)

    async def main() -> None:
        forward = FarAway(a=0.1, replicas=2)
        forward.replicas = 1
        batcher = batcher_of(forward)
        await batcher.score([item(0)], caller="a", deadline=99)  # from this it knows
        first = asyncio.create_task(batcher.score([item(1)], caller="a", deadline=99))
        await steps(3)
        few = asyncio.create_task(batcher.score(items(range(2, 5)), caller="a", deadline=99))
        await steps(3)
        assert forward.batches == [[0], [1]]
        one_more = asyncio.create_task(batcher.score([item(5)], caller="a", deadline=99))
        await steps(3)
        assert forward.batches == [[0], [1], [2, 3, 4, 5]]
        later = asyncio.create_task(batcher.score(items(range(6, 16)), caller="a", deadline=99))
        await steps(3)
        assert len(forward.batches) == 3  # one ahead, not two
        await all_of(first, few, one_more, later)

    run(main)


def test_idle_replicas_share_a_request_and_its_outcomes_come_in_order() -> None:
    async def main() -> None:
        forward = FakeForward(replicas=3)
        batcher = batcher_of(forward)
        found = await batcher.score(items(range(10)), caller="a", deadline=9)
        assert rewards(found) == list(range(10))
        assert sorted(map(len, forward.batches)) == [3, 3, 4]
        assert now() == 1

    run(main)


def test_a_replica_that_is_added_gets_work_though_nothing_comes_and_nothing_ends() -> None:
    async def main() -> None:
        forward = FakeForward(a=100, replicas=3)
        forward.replicas = 1
        batcher = batcher_of(forward, batch_items=2)
        waiting = asyncio.create_task(batcher.score(items(range(5)), caller="a", deadline=900))
        await asyncio.sleep(1)
        assert len(forward.batches) == 2
        forward.replicas = 3
        await asyncio.sleep(1)
        assert len(forward.batches) == 3
        assert rewards(await waiting) == [0, 1, 2, 3, 4]

    run(main)


def test_an_item_above_the_pixel_budget_goes_by_itself_and_the_others_under_it() -> None:
    async def main() -> None:
        forward = FakeForward()
        batcher = batcher_of(forward, batch_pixels=10)
        sizes = [4, 4, 4, 25, 1, 1]
        clips = [item(n, pixels=size) for n, size in enumerate(sizes)]
        assert rewards(await batcher.score(clips, caller="a", deadline=90)) == list(range(6))
        assert forward.batches == [[0, 1], [2], [3], [4, 5]]

    run(main)


def test_a_request_that_wants_to_be_alone_is_one_batch_among_others() -> None:
    async def main() -> None:
        forward = FakeForward()
        batcher = batcher_of(forward, batch_items=2, batch_pixels=3)
        alone = batcher.score(items(range(10, 16)), caller="run", deadline=90, alone=True)
        await all_of(*(batcher.score([item(n)], caller="a", deadline=90) for n in range(3)), alone)
        assert list(range(10, 16)) in forward.batches
        assert sorted(n for batch in forward.batches for n in batch) == [0, 1, 2, *range(10, 16)]

    run(main)


def test_one_callers_many_items_delay_anothers_one_by_no_more_than_what_was_already_sent() -> None:
    async def main() -> None:
        forward = FakeForward()
        batcher = batcher_of(forward, batch_items=32, queue_items=20_000, queue_items_per_caller=20_000)
        many = asyncio.create_task(batcher.score(items(range(10_000)), caller="bulk", deadline=900))
        await asyncio.sleep(5.5)
        asked = now()
        await batcher.score([item(1)], caller="other", deadline=900)
        assert now() - asked <= 3  # the rest of one batch, the one sent ahead, its own
        many.cancel()

    run(main)


def test_an_item_whose_deadline_passes_while_it_queues_is_never_run() -> None:
    async def main() -> None:
        forward = FakeForward(a=10)
        batcher = batcher_of(forward)
        first = asyncio.create_task(batcher.score([item(0)], caller="a", deadline=50))
        await steps(3)
        late, patient = await all_of(
            batcher.score([item(1), item(2)], caller="a", deadline=4), batcher.score([item(3)], caller="a", deadline=50)
        )
        assert (rewards(late), rewards(patient), rewards(await first)) == (["deadline_passed"] * 2, [3], [0])
        assert forward.batches == [[0], [3]]
        assert batcher.counters.dropped_late == 2

    run(main)


def test_nobody_waits_beyond_the_deadline_for_what_runs() -> None:
    async def main() -> None:
        forward = FakeForward(a=10)
        batcher = batcher_of(forward)
        found = await batcher.score([item(0)], caller="a", deadline=4)
        assert (rewards(found), now()) == (["deadline_passed"], 4)

    run(main)


def test_a_deadline_that_is_gone_already_costs_the_model_nothing() -> None:
    async def main() -> None:
        forward = FakeForward()
        await asyncio.sleep(5)
        found = await batcher_of(forward).score([item(0)], caller="a", deadline=5)
        assert (rewards(found), forward.batches) == (["deadline_passed"], [])

    run(main)


def test_a_batch_has_as_long_as_its_most_patient_item() -> None:
    async def main() -> None:
        forward = FakeForward()
        batcher = batcher_of(forward)
        await all_of(*(batcher.score([item(n)], caller="a", deadline=deadline) for n, deadline in enumerate((5, 9, 7))))
        assert forward.deadlines == [9]

    run(main)


def test_a_caller_who_goes_away_takes_along_what_still_queues() -> None:
    async def main() -> None:
        forward = FakeForward()
        batcher = batcher_of(forward, batch_items=4)
        first = asyncio.create_task(batcher.score([item(0)], caller="a", deadline=50))
        await steps(3)
        gone = asyncio.create_task(batcher.score(items(range(1, 4)), caller="a", deadline=50))
        await steps(3)
        gone.cancel()
        await steps(3)
        assert batcher.queued == 0
        assert rewards(await batcher.score([item(9)], caller="b", deadline=50)) == [9]
        assert forward.batches == [[0], [9]]
        assert batcher.counters.dropped_cancelled == 3
        assert rewards(await first) == [0]

    run(main)


def test_a_caller_who_goes_away_does_not_disturb_whom_it_shares_a_batch_with() -> None:
    async def main() -> None:
        batcher = batcher_of(FakeForward())
        first = asyncio.create_task(batcher.score([item(0)], caller="a", deadline=50))
        await steps(3)
        gone = asyncio.create_task(batcher.score([item(1)], caller="a", deadline=50))
        stays = asyncio.create_task(batcher.score([item(2)], caller="b", deadline=50))
        await asyncio.sleep(1.5)
        gone.cancel()
        assert (rewards(await first), rewards(await stays)) == ([0], [2])

    run(main)


class Failing(FakeForward):
    """Every batch with a 13 in it is lost, in one way or another."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.way = way

    async def compute(self, items: Sequence[ScoreItem]) -> BatchResult:
        done = await super().compute(items)
        if 13 in self.batches[-1]:
            if self.way == "raises":
                raise RuntimeError("a secret of the caller")
            return BatchResult(results=done.results[:-1], facts=done.facts, inference_ms=0)
        return done


@pytest.mark.parametrize("way", ["raises", "answers too little"])
def test_a_batch_that_is_lost_fails_its_items_and_no_others(way: str, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        batcher = batcher_of(Failing(way), batch_items=4)
        with caplog.at_level(logging.CRITICAL):
            lost = await batcher.score(items(range(12, 16)), caller="a", deadline=50)
        assert rewards(lost) == ["model_failed"] * 4
        assert "secret" not in repr(lost)
        assert rewards(await batcher.score([item(1)], caller="a", deadline=50)) == [1]
        assert batcher.counters.failed_batches == 1

    run(main)


def test_a_forward_that_never_ends_is_given_up_and_the_next_batch_runs(caplog: pytest.LogCaptureFixture) -> None:
    class Hanging(FakeForward):
        async def compute(self, items: Sequence[ScoreItem]) -> BatchResult:
            return await (super().compute(items) if len(self.batches) > 1 else asyncio.Future())

    async def main() -> None:
        batcher = batcher_of(Hanging())
        with caplog.at_level(logging.CRITICAL):
            first = asyncio.create_task(batcher.score([item(0)], caller="a", deadline=10))
            await steps(3)
            second = await batcher.score([item(1)], caller="a", deadline=50)
        assert (rewards(await first), rewards(second)) == (["deadline_passed"], [1])

    run(main)


def test_a_request_is_turned_away_whole_where_its_caller_or_all_have_too_many() -> None:
    async def main() -> None:
        batcher = batcher_of(FakeForward(), batch_items=2, queue_items=10, queue_items_per_caller=6)
        tasks = []
        for caller in "pab":
            tasks.append(asyncio.create_task(batcher.score(items(range(4)), caller=caller, deadline=99)))
            await steps(3)
        assert batcher.queued == 8  # four have left: a batch that runs and one ahead
        with pytest.raises(QueueFull) as mine:
            await batcher.score(items(range(3)), caller="a", deadline=99)
        with pytest.raises(QueueFull) as ours:
            await batcher.score(items(range(3)), caller="c", deadline=99)
        assert (mine.value.by_caller, ours.value.by_caller) == (True, False)
        assert (batcher.queued, batcher.counters.refused_by_caller, batcher.counters.refused_by_queue) == (8, 3, 3)
        tasks.append(asyncio.create_task(batcher.score(items(range(2)), caller="a", deadline=99)))
        assert [rewards(found) for found in await all_of(*tasks)] == [[0, 1, 2, 3]] * 3 + [[0, 1]]

    run(main)


def test_a_request_above_every_bound_is_taken_where_nothing_waits() -> None:
    async def main() -> None:
        batcher = batcher_of(FakeForward(), queue_items=10, queue_items_per_caller=5)
        assert len(await batcher.score(items(range(100)), caller="a", deadline=99)) == 100

    run(main)


def test_who_is_turned_away_is_told_to_come_back_when_there_will_be_room() -> None:
    async def main() -> None:
        batcher = batcher_of(FakeForward(a=4), batch_items=2, queue_items=20, queue_items_per_caller=10)
        await batcher.score(items(range(8)), caller="a", deadline=99)  # two items in four seconds
        task = asyncio.create_task(batcher.score(items(range(14)), caller="a", deadline=99))
        await steps(3)
        assert batcher.queued == 10
        with pytest.raises(QueueFull) as full:
            await batcher.score(items(range(4)), caller="a", deadline=99)
        assert full.value.retry_after_s == pytest.approx(4 / (2 / 4), rel=0.2)
        await asyncio.sleep(math.ceil(full.value.retry_after_s))
        assert rewards(await batcher.score(items(range(4)), caller="a", deadline=99)) == [0, 1, 2, 3]
        await task

    run(main)


def test_closing_finishes_what_was_taken_and_takes_nothing_more() -> None:
    async def main() -> None:
        batcher = batcher_of(FakeForward(), batch_items=2)
        task = asyncio.create_task(batcher.score(items(range(9)), caller="a", deadline=99))
        await steps(3)
        closing = asyncio.create_task(batcher.close(deadline=50))
        await steps(1)
        assert not batcher.is_ready
        assert rewards(await batcher.score([item(1)], caller="b", deadline=99)) == ["model_unavailable"]
        await closing
        assert rewards(await task) == list(range(9))

    run(main)


def test_closing_ends_at_its_deadline_and_everybody_hears_of_it() -> None:
    async def main() -> None:
        batcher = batcher_of(FakeForward(a=4), batch_items=2)
        task = asyncio.create_task(batcher.score(items(range(9)), caller="a", deadline=99))
        await steps(3)
        await batcher.close(deadline=6)
        assert now() == 6
        assert rewards(await task) == [0, 1] + ["model_unavailable"] * 7
        assert (batcher.queued, batcher.counters.running) == (0, 0)

    run(main)


def test_outcomes_say_how_long_an_item_waited_and_how_long_its_batch_ran() -> None:
    async def main() -> None:
        batcher = batcher_of(FakeForward(a=2))
        waiting = asyncio.create_task(batcher.score([item(0)], caller="a", deadline=9))
        await steps(3)
        (second,) = await batcher.score([item(1)], caller="b", deadline=9)
        (first,) = await waiting
        assert (first.queue_ms, first.inference_ms) == (0, 2000)
        assert (second.queue_ms, second.inference_ms) == (2000, 2000)

    run(main)


def test_counters_add_up() -> None:
    async def main() -> None:
        batcher = batcher_of(FakeForward(), batch_items=4)
        task = asyncio.create_task(batcher.score(items(range(11)), caller="a", deadline=99))
        await steps(3)
        assert (batcher.counters.queued, batcher.counters.running) == (3, 2)
        await task
        counters = batcher.counters
        assert (counters.accepted, counters.items, counters.batches) == (11, 11, 3)
        assert dict(counters.batch_sizes) == {4: 2, 3: 1}
        assert (counters.queued, counters.running, counters.inference_s) == (0, 0, 3)

    run(main)


def test_nothing_is_asked_of_the_model_for_no_items() -> None:
    async def main() -> None:
        forward = FakeForward()
        assert await batcher_of(forward).score([], caller="a", deadline=9) == []
        assert forward.batches == []

    run(main)


def test_code_of_a_failure_is_one_of_the_contract() -> None:
    async def main() -> None:
        batcher = batcher_of(FakeForward())
        await batcher.close(deadline=1)
        (found,) = await batcher.score([item(1)], caller="b", deadline=9)
        assert not isinstance(found.result, Scores)
        assert found.result.code is FailureCode.MODEL_UNAVAILABLE and found.result.code.is_retryable

    run(main)
