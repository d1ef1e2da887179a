"""Whatever comes whenever: order kept, none lost, none doubled, caps held."""

import asyncio
from collections import Counter
from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from cluster.serving.values import Scores
from services.scoring.batcher import Batcher
from services.scoring.model import Outcome, QueueFull
from services.serve_config import DeploymentConfig
from tests.services.scoring.fake_forward import FakeForward, item
from tests.services.scoring.virtual_time import now, run

ITEMS, PIXELS = 5, 12


@dataclass
class Call:
    """One request."""

    at: int
    caller: str
    sizes: list[int]
    patience: int
    alone: bool
    leaves_after: int | None
    numbers: list[int] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)
    was_refused = is_gone = False
    ended_after = 0.0

    async def make(self, batcher: Batcher) -> None:
        await asyncio.sleep(self.at)
        clips = [item(n, pixels=size) for n, size in zip(self.numbers, self.sizes, strict=True)]
        try:
            async with asyncio.timeout(self.leaves_after):
                self.outcomes = await batcher.score(
                    clips, caller=self.caller, deadline=now() + self.patience, alone=self.alone
                )
        except QueueFull:
            self.was_refused = True
        except TimeoutError:
            self.is_gone = True
        self.ended_after = now() - self.at


CALLS = st.lists(
    st.builds(
        Call,
        at=st.integers(0, 20),
        caller=st.sampled_from("abc"),
        sizes=st.lists(st.integers(1, 20), min_size=1, max_size=12),
        patience=st.integers(1, 30),
        alone=st.booleans(),
        leaves_after=st.none() | st.integers(0, 9),
    ),
    max_size=12,
)


@given(CALLS, st.integers(1, 3), st.floats(0, 3), st.floats(0, 0.5))
def test_each_item_runs_at_most_once_in_order_under_the_caps_and_its_caller_hears_of_it_in_time(
    made: list[Call], replicas: int, a: float, b: float
) -> None:
    for index, call in enumerate(made):
        call.numbers, call.outcomes = [1000 * index + n for n in range(len(call.sizes))], []
    size_of = {number: size for call in made for number, size in zip(call.numbers, call.sizes, strict=True)}

    async def main() -> FakeForward:
        forward = FakeForward(a=a, b=b, replicas=replicas)
        config = DeploymentConfig(batch_items=ITEMS, batch_pixels=PIXELS, queue_items=40, queue_items_per_caller=20)
        batcher = Batcher(forward, config, clock=asyncio.get_running_loop().time)
        await asyncio.gather(*(call.make(batcher) for call in made))
        await batcher.close(deadline=now() + 100)
        assert (batcher.queued, batcher.counters.running) == (0, 0)
        assert sum(batcher.counters.batch_sizes.elements()) == batcher.counters.items
        return forward

    forward = run(main)
    ran = [number for batch in forward.batches for number in batch]
    assert max(Counter(ran).values(), default=1) == 1
    assert forward.most_in_flight <= 2 * replicas
    for batch in forward.batches:
        owner = made[batch[0] // 1000]
        if owner.alone:
            assert batch == owner.numbers
        else:
            assert not any(made[number // 1000].alone for number in batch)
            assert len(batch) <= ITEMS
            assert len(batch) == 1 or sum(size_of[number] for number in batch) <= PIXELS
    for call in made:
        assert [number for number in ran if number in call.numbers] == call.numbers[
            : sum(n in ran for n in call.numbers)
        ]
        if call.was_refused:
            assert not set(call.numbers) & set(ran)
        elif not call.is_gone:
            assert len(call.outcomes) == len(call.numbers)
            assert call.ended_after <= call.patience + 1e-6
            for number, outcome in zip(call.numbers, call.outcomes, strict=True):
                assert not isinstance(outcome.result, Scores) or outcome.result.reward == number
            if call.ended_after < call.patience - 1e-6:
                assert all(isinstance(outcome.result, Scores) for outcome in call.outcomes)
