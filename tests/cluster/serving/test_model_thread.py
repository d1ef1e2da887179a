import asyncio
import threading
import time

import pytest

from cluster.errors import ReplicaBrokenError
from cluster.serving.model_thread import ModelThread


async def test_calls_run_one_after_another_in_one_thread_while_the_loop_is_free() -> None:
    thread, beats = ModelThread(stall_s=60), 0

    async def beat() -> None:
        nonlocal beats
        while True:
            beats += 1
            await asyncio.sleep(0.001)

    beating = asyncio.create_task(beat())
    names = await asyncio.gather(*(thread.run(lambda: (time.sleep(0.02), threading.get_ident())[1]) for _ in range(3)))
    beating.cancel()
    assert len(set(names)) == 1 and names[0] != threading.get_ident()
    assert beats > 3


async def test_what_a_call_raises_reaches_its_caller_and_the_thread_goes_on() -> None:
    thread = ModelThread(stall_s=60)
    with pytest.raises(ZeroDivisionError):
        await thread.run(lambda: 1 // 0)
    assert await thread.run(lambda: "well") == "well"
    thread.check()


async def test_a_call_that_nobody_waits_for_any_more_is_not_begun() -> None:
    thread, begun, go_on = ModelThread(stall_s=60), list[int](), threading.Event()
    first = asyncio.create_task(thread.run(go_on.wait))
    second = asyncio.create_task(thread.run(lambda: begun.append(2)))
    await asyncio.sleep(0)
    second.cancel()
    await asyncio.sleep(0)
    go_on.set()
    assert await first
    await thread.run(lambda: None)
    assert begun == []


async def test_a_call_that_hangs_is_noticed_and_all_who_wait_are_told() -> None:
    thread, go_on = ModelThread(stall_s=0.01), threading.Event()
    hanging, waiting = (asyncio.create_task(thread.run(call)) for call in (go_on.wait, lambda: None))
    with pytest.raises(ReplicaBrokenError, match=r"has not ended within 0\.01 s"):
        while True:
            await asyncio.sleep(0.005)
            thread.check()
    for task in (hanging, waiting):
        with pytest.raises(ReplicaBrokenError):
            await task
    with pytest.raises(ReplicaBrokenError):
        await thread.run(lambda: None)
    go_on.set()


async def test_a_call_that_finds_the_replica_broken_is_the_last_one() -> None:
    def fail() -> None:
        raise ReplicaBrokenError("its GPU has failed")

    thread = ModelThread(stall_s=60)
    for call in (fail, lambda: None):
        with pytest.raises(ReplicaBrokenError, match="its GPU has failed"):
            await thread.run(call)
    with pytest.raises(ReplicaBrokenError):
        thread.check()


async def test_loading_may_take_as_long_as_it_takes() -> None:
    thread = ModelThread(stall_s=0.0)
    loading = asyncio.create_task(thread.load(lambda: time.sleep(0.03)))
    await asyncio.sleep(0.01)
    thread.check()
    await loading


async def test_a_model_that_calls_exit_costs_its_call_only() -> None:
    def leave() -> None:
        raise SystemExit

    thread = ModelThread(stall_s=60)
    with pytest.raises(RuntimeError, match="raised SystemExit"):
        await thread.run(leave)
    assert await thread.run(lambda: "well") == "well"
