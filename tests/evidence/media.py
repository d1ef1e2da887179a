"""`python -m tests.evidence.media [--clips N]`: what the media guard does with mutated clips and bombs, as JSON."""

from __future__ import annotations

import argparse
import asyncio
import json
import lzma
import os
import resource
import time
from collections import Counter
from pathlib import Path

import psutil

from services.media.guard import MediaGuard
from services.media.limits import MediaLimits
from services.media.refusal import MediaRefused
from tests.services.media import clips

BOMBS = Path(clips.__file__).parent / "bombs"


async def mutated(count: int) -> dict[str, object]:
    """Outcomes of mutated clips of every allowed kind; how many decoder processes it took."""
    sources = [clips.clip(container, codec) for container, codec in clips.ALLOWED]
    outcomes: Counter[str] = Counter()
    pids: set[int] = set()
    began = time.monotonic()
    async with MediaGuard(slots=2, cache_bytes=0) as guard:

        async def one(seed: int) -> None:
            try:
                await guard.decode(clips.mutated(sources[seed % len(sources)], seed), deadline_s=120)
                outcomes["decoded"] += 1
            except MediaRefused as refused:
                outcomes[refused.code] += 1
            pids.update(guard.pids)

        for first in range(0, count, 32):
            await asyncio.gather(*(one(seed) for seed in range(first, min(first + 32, count))))
        whole = [(await guard.decode(source, deadline_s=30)).facts.frames for source in sources]
    return {
        "clips": count, "outcomes": dict(outcomes), "whole_clips_after": whole, "decoder_processes": len(pids),
        "seconds": round(time.monotonic() - began, 1),
    }  # fmt: skip


async def bombs() -> list[dict[str, object]]:
    """Milliseconds to the refusal, and growth of guard and decoder at their peak, of each form of the bomb."""
    mp4, webm = (lzma.decompress((BOMBS / f"bomb.{kind}.xz").read_bytes()) for kind in ("mp4", "webm"))
    small = clips.with_size(mp4, 64, 64)
    forms = {"mp4": mp4, "64 x 64 claimed": small, "webm": webm}
    short = {"8 frames claimed": clips.with_frames(mp4, 8), "both claimed": clips.with_frames(small, 8)}
    found: list[dict[str, object]] = []
    # with the larger limit, those said to be short are clips of eight frames and no bombs
    for frame_pixels, tried in ((2**22, forms | short), (2**24, forms)):
        for name, data in tried.items():
            async with MediaGuard(MediaLimits(max_frame_pixels=frame_pixels), slots=1) as guard:
                child = psutil.Process(guard.pids[0])
                before = _peaks(child.pid)
                began = time.monotonic()
                try:
                    await guard.decode(data, deadline_s=30)
                    code = "decoded"
                except MediaRefused as refused:
                    code = refused.code
                elapsed = time.monotonic() - began
                growth = [now - was for now, was in zip(_peaks(child.pid), before, strict=True)]
            found.append({
                "form": name, "bytes": len(data), "max_frame_pixels": frame_pixels, "outcome": code,
                "ms": round(1000 * elapsed, 1), "growth_mib": [round(size / 2**20, 1) for size in growth],
            })  # fmt: skip
    return found


def _peaks(pid: int) -> list[int]:
    """Most memory that this process and another ever held, bytes."""
    status = Path(f"/proc/{pid}/status").read_text()
    peak = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return [resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, int(peak.split()[1]) * 1024]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=10_000)
    arguments = parser.parse_args()
    result = {
        "bombs": asyncio.run(bombs()),
        "mutated": asyncio.run(mutated(arguments.clips)),
        "load": os.getloadavg()[0],
    }
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
