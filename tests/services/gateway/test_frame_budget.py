"""Memory for decoded frames."""

import asyncio
import time

import pytest

from services.gateway.frame_budget import FrameBudget
from services.gateway.problems import Problem


async def test_while_there_is_room_nobody_waits() -> None:
    budget = FrameBudget(100)
    async with budget.room(time.monotonic() + 60) as first, budget.room(time.monotonic() + 60) as second:
        first.hold(60)
        second.hold(60)
        with pytest.raises(Problem) as raised:
            async with budget.room(time.monotonic() + 0.01):
                raise AssertionError("there is no room")
        assert raised.value.kind.code == "deadline_passed"


async def test_who_waits_goes_on_once_there_is_room() -> None:
    budget, went_on = FrameBudget(100), asyncio.Event()

    async def wait() -> None:
        async with budget.room(time.monotonic() + 60):
            went_on.set()

    async with budget.room(time.monotonic() + 60) as room:
        room.hold(100)
        waiting = asyncio.create_task(wait())
        await asyncio.sleep(0)
        room.hold(100)
        await asyncio.sleep(0)
        assert not went_on.is_set()
    await asyncio.wait_for(waiting, 60)


async def test_what_a_holder_fails_with_gives_its_room_back() -> None:
    budget = FrameBudget(100)
    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            async with budget.room(time.monotonic() + 60) as room:
                room.hold(1000)
                raise ZeroDivisionError
    async with budget.room(time.monotonic() + 0.1):
        pass


async def test_who_stops_waiting_is_in_nobodys_way() -> None:
    budget = FrameBudget(100)
    async with budget.room(time.monotonic() + 60) as room:
        room.hold(100)
        waiting = asyncio.create_task(budget.wait(time.monotonic() + 60))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
    assert not budget._waiting
