"""44 KB that decode to 14.9 GB, with true headers and with lying ones, each as a data URL and as an upload."""

from __future__ import annotations

import functools
import lzma
import secrets
import time
from pathlib import Path
from typing import Any

import httpx2

from tests.evidence.serving.target import Peak, Target, item, outcomes
from tests.services.media import clips

BOMBS = Path(clips.__file__).parent / "bombs"
_EBML_VOID = b"\xec"


@functools.cache
def _packed(container: str) -> bytes:
    return lzma.decompress((BOMBS / f"bomb.{container}.xz").read_bytes())


def forms() -> dict[str, bytes]:
    """By what the header claims."""
    mp4 = _packed("mp4")
    small = clips.with_size(mp4, 64, 64)
    return {
        "the truth": mp4, "the truth, WebM": _packed("webm"), "64 x 64 pixels": small,
        "8 frames": clips.with_frames(mp4, 8), "8 frames of 64 x 64": clips.with_frames(small, 8),
    }  # fmt: skip


def another(data: bytes) -> bytes:
    """The same video in other bytes, so that nobody remembers it."""
    noise = secrets.token_bytes(16)
    if data[4:8] == b"ftyp":
        return data + (24).to_bytes(4, "big") + b"free" + noise
    return data + _EBML_VOID + bytes([0x80 | len(noise)]) + noise


async def run(target: Target, *, rounds: int, with_short: bool = True) -> list[dict[str, Any]]:
    """Milliseconds to each refusal, and how much more server and decoders held meanwhile at most, in MiB.

    Args:
        with_short: also those that are said to be short. Where the limits allow their frames, those are no bombs.
    """
    rows = []
    async with target.callers(2) as client:
        for claim, data in forms().items():
            if "8 frames" in claim and not with_short:
                continue
            for way in ("data URL", "upload"):
                times, growths, codes = list[float](), list[float](), set[str]()
                for _ in range(rounds):
                    bomb = another(data)
                    peak, begun = Peak(target), time.perf_counter()
                    response = await _sent(target, client, bomb, way)
                    times.append(1000 * (time.perf_counter() - begun))
                    growths.append(peak.growth_mib())
                    codes.update(outcomes(response) if response is not None else ["unanswered"])
                rows.append({
                    "claim": claim, "sent_as": way, "bytes": len(data), "outcome": sorted(codes),
                    "ms_median": round(sorted(times)[len(times) // 2], 1), "ms_max": round(max(times), 1),
                    "growth_mib_max": max(growths),
                })  # fmt: skip
    return rows


async def _sent(target: Target, client: httpx2.AsyncClient, bomb: bytes, way: str) -> httpx2.Response | None:
    if way == "upload":
        return await target.post(client, "/v1/files", content=bomb, headers={"Content-Type": "video/mp4"})
    return await target.post(client, "/v1/score", json={"items": [item(bomb)]})
