"""Mutated clips from many callers at once, and whole ones between them, which must all be scored."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter
from typing import Any

import httpx2
import numpy as np

from tests.evidence.serving.target import Target, item, outcomes
from tests.services.media import clips

_PER_REQUEST = 8
_OURS = {"internal_error", "model_failed", "non_finite_score", "decoder_unavailable", "model_unavailable"}
"""Codes that say that the service failed, not the clip."""


def whole(index: int) -> bytes:
    """A clip that the bundled model takes; containers and codecs in turn, each clip another."""
    container, codec = clips.ALLOWED[index % len(clips.ALLOWED)]
    return clips.clip(container, codec, frames=9, height=32, width=32, rate=8, seed=index)


def mutations(seed: int) -> tuple[str, bytes]:
    """(kind, clip)"""
    rng = np.random.default_rng(seed)
    source, other = (whole(int(number)) for number in rng.integers(25, size=2))
    kind = ("anywhere", "headers", "boxes", "spliced", "cut", "grown")[seed % 6]
    return kind, _MUTATE[kind](source, other, rng, seed)


def _anywhere(source: bytes, other: bytes, rng: np.random.Generator, seed: int) -> bytes:
    return clips.mutated(source, seed)


def _headers(source: bytes, other: bytes, rng: np.random.Generator, seed: int) -> bytes:
    """Integers of the description are set to extremes; what holds the frames stays."""
    changed = bytearray(source)
    frames = range(source.find(b"mdat"), source.find(b"moov")) if b"mdat" in source else range(0)
    places = [at for at in range(8, len(source) - 4) if at not in frames]
    for at in rng.choice(places, size=int(rng.integers(1, 5))):
        width = int(rng.integers(1, 5))
        changed[at : at + width] = rng.choice([bytes(4), b"\xff" * 4, b"\x7f\xff\xff\xff", rng.bytes(4)])[:width]
    return bytes(changed)


def _boxes(source: bytes, other: bytes, rng: np.random.Generator, seed: int) -> bytes:
    """A part of the file is given another name, length or place."""
    names = [b"moov", b"trak", b"mdia", b"stsd", b"stts", b"stsz", b"stco", b"stsc", b"mdat", b"avcC", b"free", b"tkhd"]
    known = [name for name in names if name in source]
    if not known:
        return clips.mutated(source, seed)
    at = source.find(known[int(rng.integers(len(known)))])
    changed = bytearray(source)
    match int(rng.integers(3)):
        case 0:
            changed[at : at + 4] = names[int(rng.integers(len(names)))]
        case 1:
            changed[at - 4 : at] = int(rng.integers(2**32)).to_bytes(4, "big")
        case _:
            size = int.from_bytes(changed[at - 4 : at], "big")
            changed += changed[at - 4 : at - 4 + min(size, 4096)]
    return bytes(changed)


def _spliced(source: bytes, other: bytes, rng: np.random.Generator, seed: int) -> bytes:
    return source[: int(rng.integers(16, len(source)))] + other[int(rng.integers(len(other))) :]


def _cut(source: bytes, other: bytes, rng: np.random.Generator, seed: int) -> bytes:
    return source[: int(rng.integers(1, len(source)))]


def _grown(source: bytes, other: bytes, rng: np.random.Generator, seed: int) -> bytes:
    at = int(rng.integers(len(source)))
    return source[:at] + rng.bytes(int(rng.integers(1, 5000))) + source[at:]


_MUTATE = {
    "anywhere": _anywhere, "headers": _headers, "boxes": _boxes, "spliced": _spliced, "cut": _cut, "grown": _grown,
}  # fmt: skip


async def run(target: Target, *, mutated: int, valid: int, callers: int = 8) -> dict[str, Any]:
    """Half of them as data URLs, several in a request; half as uploads that are scored by their ids if they are taken.

    The whole ones come from one more caller, spread over the time that the others take.
    """
    before, begun = target.cost(), time.monotonic()
    found: Counter[str] = Counter()
    kinds: Counter[str] = Counter()
    seeds, done = iter(range(mutated)), 0
    async with target.callers(callers + 1) as client:

        async def attack() -> None:
            nonlocal done
            while batch := [mutations(seed) for seed in itertools.islice(seeds, _PER_REQUEST)]:
                kinds.update(kind for kind, _ in batch)
                videos = [data for _, data in batch]
                as_data = (done // _PER_REQUEST) % 2 == 0
                found.update(await (_inline(target, client, videos) if as_data else _uploaded(target, client, videos)))
                done += len(batch)

        async def good() -> Counter[str]:
            scored: Counter[str] = Counter()
            for index in range(valid):
                while done < mutated and done * valid < index * mutated:
                    await asyncio.sleep(0.02)
                send = _inline if index // len(clips.ALLOWED) % 2 else _uploaded
                scored.update(await send(target, client, [whole(1000 + index)]))
            return scored

        attacks = asyncio.gather(*(attack() for _ in range(callers)))
        scored = await good()
        await attacks
    await asyncio.sleep(1)
    return {
        "mutated": mutated, "kinds": dict(kinds), "outcomes": dict(found.most_common()), "valid": dict(scored),
        "statuses": {str(status): count for status, count in sorted(target.statuses.items())},
        "unanswered": target.unanswered, "failures_of_the_service": sum(found[code] for code in _OURS),
        "leaks": target.leaks, "before": before, "after": target.cost(), "seconds": round(time.monotonic() - begun, 1),
    }  # fmt: skip


async def _inline(target: Target, client: httpx2.AsyncClient, videos: list[bytes]) -> list[str]:
    response = await target.post(client, "/v1/score", json={"items": [item(video) for video in videos]})
    return list(outcomes(response)) if response is not None else ["unanswered"] * len(videos)


async def _uploaded(target: Target, client: httpx2.AsyncClient, videos: list[bytes]) -> list[str]:
    found, ids = [], []
    for video in videos:
        response = await target.post(client, "/v1/files", content=video, headers={"Content-Type": "video/mp4"})
        if response is not None and response.is_success:
            ids.append(response.json()["id"])
        else:
            found.append("unanswered" if response is None else response.json()["code"])
    if ids:
        response = await target.post(client, "/v1/score", json={"items": [item(each) for each in ids]})
        found += outcomes(response) if response is not None else ["unanswered"] * len(ids)
    return found
