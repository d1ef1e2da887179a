import asyncio

import pytest

from cluster.deadline import within
from policies.errors import StallError


async def test_an_answer_in_time_is_passed_on():
    assert await within(asyncio.sleep(0, "answer"), seconds=5, waiting_for="nothing") == "answer"


async def test_a_late_answer_names_what_was_waited_for():
    with pytest.raises(StallError, match=r"no answer from the learner's update within 0\.01 s"):
        await within(asyncio.sleep(60), seconds=0.01, waiting_for="the learner's update")


async def test_a_timeout_of_the_awaited_itself_is_not_renamed():
    async def own() -> None:
        raise TimeoutError("socket")

    with pytest.raises(TimeoutError, match="socket") as caught:
        await within(own(), seconds=5, waiting_for="a socket")
    assert not isinstance(caught.value, StallError)


async def test_what_is_late_is_cancelled():
    task = asyncio.ensure_future(asyncio.sleep(60))
    with pytest.raises(StallError):
        await within(task, seconds=0.01, waiting_for="sleep")
    assert task.cancelled()
