import asyncio
from collections import Counter

import pytest

from cluster.serving.turns import Turns


class Clock:
    """Stands still unless a turn is used."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


async def use(turns: Turns, clock: Clock, kind: str, seconds: float, log: list[str]) -> None:
    async with turns.turn(kind):
        log.append(kind)
        await asyncio.sleep(0)
        clock.now += seconds


async def share(weights: dict[str, float], seconds: dict[str, float], *, until: float) -> Counter[str]:
    """Seconds that each kind gets while both always want a turn."""
    clock, log = Clock(), list[str]()
    turns = Turns(weights, clock=clock)

    async def always(kind: str) -> None:
        while clock.now < until:
            await use(turns, clock, kind, seconds[kind], log)

    await asyncio.gather(*(always(kind) for kind in weights for _ in range(3)))
    return Counter({kind: log.count(kind) * seconds[kind] for kind in weights})


@pytest.mark.parametrize(("weights", "expected"), [((1, 1), 1.0), ((1, 3), 3.0), ((4, 1), 0.25)])
async def test_time_is_shared_by_weight_however_long_a_turn_is(weights: tuple[int, int], expected: float) -> None:
    used = await share(
        {"callers": weights[0], "runs": weights[1]}, {"callers": 0.02, "runs": 0.5}, until=1000.0
    )  # fmt: skip
    assert used["runs"] / used["callers"] == pytest.approx(expected, rel=0.02)


async def test_the_same_kind_goes_in_the_order_in_which_it_came() -> None:
    turns, order = Turns({"callers": 1}), list[int]()

    async def one(number: int) -> None:
        async with turns.turn("callers"):
            order.append(number)
            await asyncio.sleep(0)

    await asyncio.gather(*map(one, range(5)))
    assert order == [0, 1, 2, 3, 4]


async def test_time_that_was_not_wanted_is_not_owed() -> None:
    clock, log = Clock(), list[str]()
    turns = Turns({"callers": 1, "runs": 1}, clock=clock)
    for _ in range(100):
        await use(turns, clock, "callers", 1.0, log)
    log.clear()
    await asyncio.gather(*(use(turns, clock, kind, 1.0, log) for kind in ("callers", "runs") for _ in range(4)))
    assert sorted(log[:4]) == ["callers", "callers", "runs", "runs"]


async def test_one_that_gives_up_waiting_takes_no_turn_with_it() -> None:
    clock, log = Clock(), list[str]()
    turns = Turns({"callers": 1, "runs": 1}, clock=clock)
    async with turns.turn("callers"):
        waiting = [asyncio.create_task(use(turns, clock, kind, 1.0, log)) for kind in ("runs", "callers", "runs")]
        await asyncio.sleep(0)
        waiting[0].cancel()
    waiting[2].cancel()  # the turn may just have been given to it
    await asyncio.gather(*waiting, return_exceptions=True)
    await use(turns, clock, "runs", 1.0, log)
    assert log == ["callers", "runs"]


async def test_a_turn_that_fails_ends() -> None:
    turns = Turns({"callers": 1})
    with pytest.raises(ValueError, match="broken"):
        async with turns.turn("callers"):
            raise ValueError("broken")
    async with asyncio.timeout(1), turns.turn("callers"):
        pass
