"""Videos through real decoder processes."""

import asyncio
import os
import pickle
import signal
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from policies.errors import StallError
from policies.rewards.frames import read_clip
from services.media.guard import MediaGuard
from services.media.limits import MediaLimits
from services.media.refusal import SENTENCES, Code, GuardBusy, MediaRefused
from tests.services.media.clips import ALLOWED, clip
from tests.services.media.conftest import SMALL

pytestmark = pytest.mark.asyncio(loop_scope="module")

SAMPLE = [(*allowed, 40 * index + seed) for index, allowed in enumerate(ALLOWED) for seed in range(4)]
ALL = [(*allowed, 40 * index + seed) for index, allowed in enumerate(ALLOWED) for seed in range(40)]


def shape_of(seed: int) -> dict[str, int]:
    return {"frames": 2 + seed % 7, "height": 64 + 2 * (seed % 5), "width": 64 + 4 * (seed % 9), "rate": 4 + seed % 21}


async def check_valid(guard: MediaGuard, cases: list[tuple[str, str, int]]) -> None:
    for container, codec, seed in cases:
        shape = shape_of(seed)
        media = await guard.decode(clip(container, codec, seed=seed, **shape), deadline_s=30)
        assert media.frames_FHWC.shape == (shape["frames"], shape["height"], shape["width"], 3)
        assert (media.facts.container, media.facts.codec) == (container, codec)
        assert media.fps == pytest.approx(shape["rate"], rel=0.02)


async def test_valid_clips_of_every_container_and_codec_decode(guard: MediaGuard) -> None:
    await check_valid(guard, SAMPLE)


@pytest.mark.slow
async def test_200_valid_clips_decode(guard: MediaGuard) -> None:
    assert len(ALL) == 200
    await check_valid(guard, ALL)


@pytest.mark.parametrize(("container", "codec"), ALLOWED)
async def test_frames_are_those_that_a_local_reading_gives(
    guard: MediaGuard, container: str, codec: str, tmp_path: Path
) -> None:
    data = clip(container, codec, frames=12)
    (tmp_path / "clip").write_bytes(data)
    local = read_clip(tmp_path / "clip")
    media = await guard.decode(data, deadline_s=30)
    assert np.array_equal(media.frames_FHWC, local.frames_FHWC)
    assert media.fps == local.fps


async def test_a_process_that_dies_while_it_is_idle_costs_nobody_anything(guard: MediaGuard) -> None:
    (pid,) = guard.pids
    os.kill(pid, signal.SIGKILL)
    while psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        await asyncio.sleep(0.001)
    assert (await guard.decode(clip(), deadline_s=30)).facts.frames == 8
    assert guard.pids != (pid,)


async def test_processes_are_replaced_after_so_many_clips() -> None:
    async with MediaGuard(SMALL.model_copy(update={"clips_per_child": 2}), slots=1, cache_bytes=0) as guard:
        seen = set()
        for _ in range(5):
            seen |= set(guard.pids)
            await guard.decode(clip(), deadline_s=30)
            await asyncio.gather(*guard._refills)
        assert len(seen) == 3


async def test_a_clip_that_takes_too_long_is_refused_and_its_process_replaced() -> None:
    async with MediaGuard(MediaLimits(decode_s=0.001), slots=1) as guard:
        before = guard.pids
        with pytest.raises(MediaRefused) as refused:
            await guard.decode(clip(frames=64, height=256, width=256), deadline_s=30)
        assert refused.value.code == Code.TOO_SLOW
        await asyncio.gather(*guard._refills)
        assert guard.pids != before


async def test_a_deadline_that_passes_while_decoding_is_not_the_clips_fault(guard: MediaGuard) -> None:
    data = clip(frames=64, height=128, width=128)
    with pytest.raises(StallError, match="media decode: "):
        await guard.decode(data, deadline_s=0.001)
    assert (await guard.decode(data, deadline_s=30)).facts.frames == 64


async def test_a_caller_is_turned_away_when_too_many_wait_and_told_when_waiting_took_too_long() -> None:
    data = [clip(seed=seed) for seed in range(3)]
    async with MediaGuard(SMALL, slots=1, max_waiting=1) as guard:
        slot = await guard._free_slot(time.monotonic() + 10)
        waiting = asyncio.create_task(guard.decode(data[0], deadline_s=0.3))
        await asyncio.sleep(0.1)
        with pytest.raises(GuardBusy):
            await guard.decode(data[1], deadline_s=30)
        with pytest.raises(StallError, match="media queue: "):
            await waiting
        guard._release(slot)
        assert (await guard.decode(data[2], deadline_s=30)).facts.frames == 8


@pytest.mark.slow
async def test_a_cancelled_caller_frees_the_decoder_for_the_next() -> None:
    async with MediaGuard(slots=1) as guard:
        task = asyncio.create_task(guard.decode(clip(frames=200, height=512, width=512), deadline_s=30))
        await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (await guard.decode(clip(), deadline_s=30)).facts.frames == 8


async def test_the_same_bytes_are_decoded_once() -> None:
    async with MediaGuard(SMALL, slots=1) as guard:
        first = await guard.decode(clip(), deadline_s=30)
        assert await guard.decode(clip(), deadline_s=30) is first
        with pytest.raises(ValueError, match="read-only"):
            first.frames_FHWC[0] = 0


async def test_no_process_is_left_behind() -> None:
    async with MediaGuard(SMALL, slots=2) as guard:
        pids = guard.pids
        assert len(set(pids)) == 2
    assert not any(psutil.pid_exists(pid) for pid in pids)


async def test_a_refusal_survives_pickling() -> None:
    for code in Code:
        again = pickle.loads(pickle.dumps(MediaRefused(code)))
        assert (again.code, str(again)) == (code, SENTENCES[code])
