import asyncio
import os
import signal
import subprocess
import sys

import pytest

from cluster.stopping import StopSignals

TWICE = """
import asyncio, os, signal
from cluster.stopping import StopSignals
async def main():
    with StopSignals(asyncio.current_task()) as signals:
        signals.is_updating = True
        os.kill(os.getpid(), signal.SIGINT)
        await asyncio.sleep(0.01)
        print(signals.received.name, flush=True)
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.sleep(30)
asyncio.run(main())
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_first_signal_between_updates_is_only_remembered(number: signal.Signals) -> None:
    task = asyncio.current_task()
    assert task is not None
    with StopSignals(task) as signals:
        signals.is_updating = True
        os.kill(os.getpid(), number)
        await asyncio.sleep(0.01)
        assert signals.received is number


async def test_a_first_signal_outside_of_updates_cancels_the_run() -> None:
    async def start_up() -> None:
        task = asyncio.current_task()
        assert task is not None
        with StopSignals(task):
            os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.sleep(30)

    with pytest.raises(asyncio.CancelledError):
        await asyncio.ensure_future(start_up())


def test_a_second_signal_ends_the_process_at_once_with_its_own_code() -> None:
    done = subprocess.run([sys.executable, "-c", TWICE], capture_output=True, text=True, timeout=20, check=False)
    assert (done.returncode, done.stdout) == (143, "SIGINT\n")
