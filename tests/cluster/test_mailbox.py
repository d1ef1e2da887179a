import asyncio
import os
from typing import Any

import pytest

from cluster.mailbox import Mailbox

WAIT_S = 5.0


def member(incarnation: int = 1, pid: int = 10) -> dict[str, Any]:
    return {"pid": pid, "incarnation": incarnation, "position": 0, "weights_hash": "w0"}


def update(index: int) -> dict[str, Any]:
    return {"kind": "update", "batch_index": index, "group_ids": []}


def answer(digest: str) -> dict[str, Any]:
    return {"weights_hash": digest}


async def do(mailbox: Mailbox, position: int, given: dict[str, Any], *, rank: int = 0, incarnation: int = 1) -> Any:
    """One turn of a rank: takes the command at a position, hands its answer back, does not wait for the next."""
    command = await mailbox.poll(rank, position, member(incarnation), None, WAIT_S)
    await mailbox.poll(rank, position + 1, member(incarnation), given, 0)
    return command


async def test_a_command_reaches_the_rank_and_its_answer_comes_back():
    mailbox = Mailbox(world_size=1, is_exact=True)
    execution = asyncio.ensure_future(mailbox.execute({0: update(0)}))
    assert await do(mailbox, 0, answer("w1")) == update(0)
    assert await execution == {"answers": [answer("w1")], "pids": [10], "mailbox": os.getpid()}


async def test_a_poll_waits_for_a_command_and_gives_up_without_one():
    mailbox = Mailbox(world_size=1, is_exact=True)
    assert await mailbox.poll(0, 0, member(), None, 0.01) is None
    poll = asyncio.ensure_future(mailbox.poll(0, 0, member(), None, WAIT_S))
    await asyncio.sleep(0)
    execution = asyncio.ensure_future(mailbox.execute({0: update(0)}))
    assert await poll == update(0)
    execution.cancel()


async def test_an_answer_counts_when_every_rank_has_given_it():
    mailbox = Mailbox(world_size=2, is_exact=True)
    execution = asyncio.ensure_future(mailbox.execute({0: update(0)}))
    await do(mailbox, 0, answer("w1"), rank=1)
    await asyncio.sleep(0.01)
    assert not execution.done()
    await do(mailbox, 0, answer("w1"), rank=0)
    assert len((await execution)["answers"]) == 2


async def test_submitting_again_gives_the_same_answer():
    mailbox = Mailbox(world_size=1, is_exact=True)
    first = asyncio.ensure_future(mailbox.execute({0: update(0)}))
    await do(mailbox, 0, answer("w1"))
    assert await mailbox.execute({0: update(0)}) == await first


async def test_another_command_at_a_taken_position_is_our_bug():
    mailbox = Mailbox(world_size=1, is_exact=True)
    asyncio.ensure_future(mailbox.execute({0: update(0)})).cancel()
    execution = asyncio.ensure_future(mailbox.execute({0: update(0)}))
    await asyncio.sleep(0)
    with pytest.raises(ValueError, match="position 0 is update, so it cannot be save"):
        await mailbox.execute({0: {"kind": "save"}})
    execution.cancel()


async def test_an_empty_mailbox_gets_the_answer_again_with_the_next_poll():
    reborn = Mailbox(world_size=1, is_exact=True)
    poll = asyncio.ensure_future(reborn.poll(0, 6, member(), answer("w6"), WAIT_S))
    await asyncio.sleep(0)
    log = {position: update(position) for position in range(3, 6)}
    assert (await reborn.execute(log))["answers"] == [answer("w6")]
    execution = asyncio.ensure_future(reborn.execute({6: update(6)}))
    assert await poll == update(6)
    execution.cancel()


async def test_a_rebuilt_group_goes_the_same_way_again_without_the_controller():
    mailbox = Mailbox(world_size=1, is_exact=True)
    for position in range(3):
        execution = asyncio.ensure_future(mailbox.execute({position: update(position)}))
        await do(mailbox, position, answer(f"w{position + 1}"))
        await execution
    execution = asyncio.ensure_future(mailbox.execute({3: update(3)}))
    for position in range(1, 4):  # its commit was at position 1
        command = await do(mailbox, position, answer(f"w{position + 1}"), incarnation=2)
        assert command == update(position)
    assert (await execution)["answers"] == [answer("w4")]


async def test_a_rebuilt_group_that_gets_other_weights_ends_the_run():
    mailbox = Mailbox(world_size=1, is_exact=True)
    execution = asyncio.ensure_future(mailbox.execute({0: update(0)}))
    await do(mailbox, 0, answer("w1"))
    await execution
    await do(mailbox, 0, answer("other"), incarnation=2)
    failure = (await mailbox.execute({1: update(1)}))["failure"]
    assert failure["type"] == "WeightsMismatchError" and "rank 0 answered command 0" in failure["message"]


async def test_where_arithmetic_is_not_exact_a_rebuilt_group_may_differ():
    mailbox = Mailbox(world_size=1, is_exact=False)
    execution = asyncio.ensure_future(mailbox.execute({0: update(0)}))
    await do(mailbox, 0, answer("w1"))
    await execution
    await do(mailbox, 0, answer("nearly w1"), incarnation=2)
    assert (await mailbox.execute({0: update(0)}))["answers"] == [answer("nearly w1")]


@pytest.mark.parametrize("is_exact", [True, False])
async def test_ranks_that_arrive_at_different_weights_end_the_run(is_exact: bool):
    mailbox = Mailbox(world_size=2, is_exact=is_exact)
    execution = asyncio.ensure_future(mailbox.execute({0: update(0)}))
    await do(mailbox, 0, answer("w1"), rank=0)
    await do(mailbox, 0, answer("x1"), rank=1)
    assert (await execution)["failure"]["type"] == "WeightsMismatchError"


async def test_members_are_known_when_every_rank_has_asked():
    mailbox = Mailbox(world_size=2, is_exact=True)
    members = asyncio.ensure_future(mailbox.members())
    await mailbox.poll(0, 0, member(pid=10), None, 0)
    await asyncio.sleep(0)
    assert not members.done()
    await mailbox.poll(1, 0, member(pid=11), None, 0)
    assert (await members)["pids"] == [10, 11]


async def test_a_failure_reaches_whoever_waits_and_whoever_comes_later():
    mailbox = Mailbox(world_size=1, is_exact=True)
    execution, members = (
        asyncio.ensure_future(mailbox.execute({0: update(0)})),
        asyncio.ensure_future(mailbox.members()),
    )
    await asyncio.sleep(0)
    await mailbox.fail(0, {"type": "InputError", "message": "no such target", "trace": ""})
    for reply in (await execution, await members, await mailbox.execute({1: update(1)})):
        assert reply["failure"]["message"] == "no such target" and reply["failure"]["rank"] == 0


async def test_what_no_commit_leads_back_to_is_forgotten():
    mailbox = Mailbox(world_size=1, is_exact=True)
    for position in range(3):
        execution = asyncio.ensure_future(mailbox.execute({position: update(position)}))
        await do(mailbox, position, answer(f"w{position + 1}"))
        await execution
    await mailbox.forget(2)
    assert await mailbox.poll(0, 1, member(), None, 0.01) is None
    assert await mailbox.poll(0, 2, member(), None, 0.01) == update(2)


async def test_a_reborn_mailbox_says_which_command_a_rebuilt_group_needs():
    reborn = Mailbox(world_size=1, is_exact=True)
    poll = asyncio.ensure_future(reborn.poll(0, 2, member(incarnation=2), None, WAIT_S))
    assert await reborn.execute({4: update(4)}) == {"missing": 2}
    execution = asyncio.ensure_future(reborn.execute({position: update(position) for position in range(2, 5)}))
    assert await poll == update(2)
    execution.cancel()


async def test_an_answer_of_a_group_that_died_meanwhile_does_not_complete_the_rebuilt_ones():
    mailbox = Mailbox(world_size=2, is_exact=True)
    execution = asyncio.ensure_future(mailbox.execute({0: update(0)}))
    await do(mailbox, 0, answer("w1"), rank=0, incarnation=1)
    await do(mailbox, 0, answer("w1"), rank=1, incarnation=2)
    await asyncio.sleep(0.01)
    assert not execution.done()
    await do(mailbox, 0, answer("w1"), rank=0, incarnation=2)
    assert len((await execution)["answers"]) == 2
