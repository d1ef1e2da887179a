"""Twenty bad items among 256: the others are scored, everything in its place, however it is asked."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import Any

import httpx2

from services.client import ApiError, Client
from services.client.videos import Video
from tests.evidence.serving import bombs
from tests.evidence.serving.mutated import whole
from tests.evidence.serving.target import PROMPT, Target, data_url, item
from tests.services.media import clips

ITEMS = 256
_SHAPE = {"frames": 9, "height": 32, "width": 32}


def bad_videos() -> list[bytes]:
    """Ten, each bad in another way; all of them can be sent by any client."""
    return [
        b"no video", clips.clip(**_SHAPE)[:-60], clips.clip("mp4", "hevc"), clips.clip("mov", "h264"),
        clips.tone(), clips.with_external_reference(clips.clip()), bombs.forms()["the truth"],
        b"ffconcat version 1.0\nfile a.mp4\n", clips.clip("webm", "vp9")[:-100], clips.clip(frames=5),
    ]  # fmt: skip


def _bad_items() -> list[Any]:
    more = [
        item("0" * 64), {"prompt": PROMPT, "video": {"file_id": "../../etc/passwd"}}, {"prompt": PROMPT},
        {"prompt": "", "video": {"data": data_url(whole(0))}}, 7, {**item(whole(0)), "unknown": 1},
        {"prompt": "x" * 5000, "video": {"data": data_url(whole(0))}}, item(whole(0), "no such words, quite surely"),
        {"prompt": PROMPT, "video": {"uri": "nowhere/a.mp4"}}, {"prompt": PROMPT, "video": {"data": "data:,"}},
    ]  # fmt: skip
    return [*(item(data) for data in bad_videos()), *more]


def request() -> tuple[dict[str, Any], set[int]]:
    """The body, and which of its items are bad."""
    items = [item(whole(index % 20)) | {"id": f"n{index}"} for index in range(ITEMS)]
    bad = {(7 + 12 * index) % ITEMS: each for index, each in enumerate(_bad_items())}
    for index, each in bad.items():
        items[index] = each
    return {"items": items}, set(bad)


async def run(target: Target) -> list[dict[str, Any]]:
    """Answered at once, as a job, and by the Python client."""
    body, bad = request()
    async with target.callers(2) as client:
        begun = time.monotonic()
        response = await target.post(client, "/v1/score", json=body)
        assert response is not None and response.status_code == 200, response
        rows = [_row("at once", response.json()["data"], bad, begun)]
        begun = time.monotonic()
        rows.append(_row("as a job", await _as_job(target, client, body), bad, begun))
    begun = time.monotonic()
    rows.append({**await asyncio.to_thread(_by_client, target), "seconds": round(time.monotonic() - begun, 1)})
    return rows


async def _as_job(target: Target, client: httpx2.AsyncClient, body: dict[str, Any]) -> list[dict[str, Any]]:
    response = await target.post(client, "/v1/score", json=body, headers={"Prefer": "respond-async"})
    assert response is not None and response.status_code == 202, response
    where = response.headers["location"]
    while True:
        job = (await client.get(where, params={"wait": 20})).json()
        if job["state"] not in ("queued", "running"):
            target.look_at(200, str(job))
            result: list[dict[str, Any]] = (await client.get(f"{where}/result")).json()["data"]
            return result


def _row(way: str, entries: list[dict[str, Any]], bad: set[int], begun: float) -> dict[str, Any]:
    """Also checks that each entry says whose it is."""
    problems = Counter(entry["error"]["code"] for entry in entries if "error" in entry)
    in_order = [entry["index"] for entry in entries] == list(range(ITEMS)) and all(
        entry["id"] == f"n{entry['index']}" for entry in entries if entry["index"] not in bad
    )
    in_place = {entry["index"] for entry in entries if "error" in entry} == bad
    points = all(
        place["pointer"].startswith(f"/items/{entry['index']}")
        for entry in entries if "error" in entry for place in entry["error"]["errors"]
    )  # fmt: skip
    return {
        "asked": way, "scored": sum("scores" in entry for entry in entries), "problems": sum(problems.values()),
        "in_order": in_order and in_place and points, "codes": dict(problems),
        "seconds": round(time.monotonic() - begun, 1),
    }  # fmt: skip


def _by_client(target: Target) -> dict[str, Any]:
    videos: list[Video] = [whole(index % 20) for index in range(ITEMS)]
    bad = [(7 + 12 * index) % ITEMS for index in range(20)]
    for index, video in zip(bad, bad_videos() * 2, strict=True):
        videos[index] = video
    with Client(target.url, api_key=target.key, timeout_s=300) as client:
        results = client.score_many([(video, PROMPT) for video in videos])
    problems = [index for index, result in enumerate(results) if isinstance(result, ApiError)]
    return {
        "asked": "by the Python client", "scored": len(results) - len(problems), "problems": len(problems),
        "in_order": problems == sorted(bad),
    }  # fmt: skip
