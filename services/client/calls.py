"""The calls, as plans."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeAlias

from services.client.comparison import Comparison
from services.client.errors import ApiError, NotFound, TimedOut, TooLarge, VideoRefused
from services.client.results import Event, File, Job, Model, Score, ScoreOrError, scores_of
from services.client.steps import Answer, Pause, Plan, Request, answered, get, pause_s, post, work
from services.client.videos import INLINE_BYTES, Content, Video, content_of, reference

SCORE, COMPARE, FILES, JOBS, MODELS = "/v1/score", "/v1/compare", "/v1/files", "/v1/jobs", "/v1/models"
ITEMS_AT_ONCE = 128  # of one request: few enough to be answered at once
LONG_POLL_S = 20.0
_RETRIED_ITEMS = frozenset({429, 503})


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One video to score. The prompt is what it was made from."""

    prompt: str
    video: Video
    id: str | None = None


Items: TypeAlias = Sequence[Item | tuple[Video, str]]
JsonObject: TypeAlias = dict[str, Any]


@dataclass(slots=True)
class Uploads:
    """Ids of the files that this client has uploaded."""

    known: set[str] = field(default_factory=set)


def score_many(
    items: Items, options: Mapping[str, Any], uploads: Uploads, *, deadline: float, inline: bool = False
) -> Plan[list[ScoreOrError]]:
    """Scores in the order of the items; a video that could not be scored has an error in its place.

    Args:
        options: further members of the request: model, dimensions, timeout_s.
        inline: small videos travel in the request, which saves a round trip for one that is scored once.
    """
    results: list[ScoreOrError] = []
    wanted = [item if isinstance(item, Item) else Item(video=item[0], prompt=item[1]) for item in items]
    for start in range(0, len(wanted), ITEMS_AT_ONCE):
        part = wanted[start : start + ITEMS_AT_ONCE]
        results += yield from _score_part(part, options, uploads, deadline=deadline, inline=inline)
    return results


def _score_part(
    items: Sequence[Item], options: Mapping[str, Any], uploads: Uploads, *, deadline: float, inline: bool
) -> Plan[list[ScoreOrError]]:
    """Items that the service could not score at the moment are sent again, in a request of their own."""
    bodies = yield from _bodies(items, uploads, deadline=deadline, inline=inline)
    results: dict[int, ScoreOrError] = {index: body for index, body in bodies.items() if isinstance(body, ApiError)}
    wanted = {index: body for index, body in bodies.items() if not isinstance(body, ApiError)}
    attempt = 0
    while wanted:
        try:
            scored = yield from _scored(list(wanted.values()), options, deadline=deadline)
        except ApiError:
            if not attempt:
                raise
            break  # the first answer stands
        results |= dict(zip(wanted, scored, strict=True))
        again = {index: body for index, body in wanted.items() if _is_worth_another_try(results[index])}
        lost = [] if attempt else _deleted_elsewhere(wanted, results, items, uploads)
        for index in lost:
            (body,) = (yield from _bodies([items[index]], uploads, deadline=deadline, inline=inline)).values()
            if not isinstance(body, ApiError):
                again[index] = body
        after = max((getattr(results[index], "retry_after", None) or 0.0 for index in again), default=0.0)
        seconds = max(after, pause_s(attempt))
        if not again or time.monotonic() + seconds >= deadline:
            break
        yield Pause(seconds=seconds)
        wanted, attempt = again, attempt + 1
    return [results[index] for index in range(len(items))]


def _deleted_elsewhere(
    sent: Mapping[int, JsonObject], results: Mapping[int, ScoreOrError], items: Sequence[Item], uploads: Uploads
) -> list[int]:
    """Items whose video was uploaded by this client, and is gone."""
    gone = []
    for index, body in sent.items():
        result = results[index]
        if isinstance(result, NotFound) and result.code == "file_not_found" and not isinstance(items[index].video, str):
            uploads.known.discard(body["video"]["file_id"])
            gone.append(index)
    return gone


def _is_worth_another_try(result: ScoreOrError) -> bool:
    return isinstance(result, ApiError) and result.retryable and result.status in _RETRIED_ITEMS


def _scored(bodies: Sequence[JsonObject], options: Mapping[str, Any], *, deadline: float) -> Plan[list[ScoreOrError]]:
    request = post(SCORE, {**options, "items": list(bodies)})
    try:
        answer = yield from answered(request, deadline=deadline)
    except ApiError as error:
        if len(error.entries) == len(bodies):  # nothing was scored, and each item has its own reason
            return scores_of({"data": error.entries})
        raise
    if answer.status != 202:
        return scores_of(answer.json())
    ended = yield from wait(answer.json()["id"], deadline=deadline)
    if ended.scores is None:
        raise ended.error or ApiError(status=409, code="job_canceled", detail="The job was canceled.")
    return list(ended.scores)


def score(item: Item, options: Mapping[str, Any], uploads: Uploads, *, deadline: float) -> Plan[Score]:
    """One video. Raises the ApiError of its item, too."""
    (result,) = yield from score_many([item], options, uploads, deadline=deadline, inline=True)
    if isinstance(result, ApiError):
        raise result
    return result


def compare(
    prompt: str, videos: Sequence[Video], options: Mapping[str, Any], uploads: Uploads, *, deadline: float
) -> Plan[Comparison]:
    """The ranking of videos of one prompt. Raises the ApiError of a video that leaves fewer than two."""
    items = [Item(prompt=prompt, video=video) for video in videos]
    bodies = yield from _bodies(items, uploads, deadline=deadline, inline=False)
    refused = {index: body for index, body in bodies.items() if isinstance(body, ApiError)}
    sent = {index: body for index, body in bodies.items() if not isinstance(body, ApiError)}
    if refused and len(sent) < 2:
        raise next(iter(refused.values()))
    body = {**options, "prompt": prompt, "videos": [one["video"] for one in sent.values()]}
    answer = yield from answered(post(COMPARE, body), deadline=deadline)
    return Comparison.of(answer.json(), sent=list(sent), refused=refused)


def submit(items: Items, options: Mapping[str, Any], uploads: Uploads, *, deadline: float) -> Plan[Job]:
    """A job that scores them in the background. Raises the ApiError of a video that cannot be uploaded."""
    wanted = [item if isinstance(item, Item) else Item(video=item[0], prompt=item[1]) for item in items]
    bodies = yield from _bodies(wanted, uploads, deadline=deadline, inline=False)
    for body in bodies.values():
        if isinstance(body, ApiError):
            raise body
    request = post(SCORE, {**options, "items": list(bodies.values())}, headers={"Prefer": "respond-async"})
    answer = yield from answered(request, deadline=deadline)
    return Job.of(answer.json())


def _bodies(
    items: Sequence[Item], uploads: Uploads, *, deadline: float, inline: bool
) -> Plan[dict[int, JsonObject | ApiError]]:
    """Items as requests have them; an error for one whose video is refused when it is uploaded.

    Every video is uploaded once, however many items and calls name it.
    """
    bodies: dict[int, JsonObject | ApiError] = {}
    for index, item in enumerate(items):
        try:
            video = yield from _video(item.video, uploads, deadline=deadline, inline=inline)
        except (VideoRefused, TooLarge) as refused:
            bodies[index] = refused
            continue
        body: JsonObject = {"prompt": item.prompt, "video": video}
        bodies[index] = body if item.id is None else body | {"id": item.id}
    return bodies


def _video(video: Video, uploads: Uploads, *, deadline: float, inline: bool) -> Plan[Mapping[str, str]]:
    content = yield from work(partial(content_of, video))
    if content is None:
        assert isinstance(video, str)
        return reference(video)
    if inline and content.size <= INLINE_BYTES:
        return {"data": (yield from work(content.data_url))}
    if content.id not in uploads.known:
        yield from upload(content, uploads, deadline=deadline)
    return {"file_id": content.id}


def upload(content: Content, uploads: Uploads, *, deadline: float) -> Plan[File]:
    """Brings a video to the service; one that it has already costs nothing more."""
    request = post(FILES, content=content.source, headers={"Content-Type": content.media_type})
    answer = yield from answered(request, deadline=deadline)
    uploads.known.add(content.id)
    return File.of(answer.json())


def files(*, deadline: float) -> Plan[list[File]]:
    """All files of this API key, newest first."""
    entries = yield from _all(FILES, deadline=deadline)
    return [File.of(entry) for entry in entries]


def delete_file(file_id: str, uploads: Uploads, *, deadline: float) -> Plan[None]:
    uploads.known.discard(file_id)
    yield from answered(Request(method="DELETE", path=f"{FILES}/{file_id}"), deadline=deadline)


def models(*, deadline: float) -> Plan[list[Model]]:
    entries = yield from _all(MODELS, deadline=deadline)
    return [Model.of(entry) for entry in entries]


def jobs(*, deadline: float) -> Plan[list[Job]]:
    """All jobs of this API key, newest first."""
    entries = yield from _all(JOBS, deadline=deadline)
    return [Job.of(entry) for entry in entries]


def job(job_id: str, *, deadline: float) -> Plan[Job]:
    answer = yield from answered(get(f"{JOBS}/{job_id}"), deadline=deadline)
    return Job.of(answer.json())


def wait(job_id: str, *, deadline: float) -> Plan[Job]:
    """The job once it has ended. Raises TimedOut."""
    while (left := deadline - time.monotonic()) > 0:
        request = get(f"{JOBS}/{job_id}", wait=round(min(LONG_POLL_S, left), 1))
        answer = yield from answered(request, deadline=deadline)
        known = Job.of(answer.json())
        if known.has_ended:
            return known
    raise TimedOut(f"the job {job_id} has not ended within the time of the call; it goes on")


def cancel(job_id: str, *, deadline: float) -> Plan[Job]:
    answer = yield from answered(post(f"{JOBS}/{job_id}/cancel"), deadline=deadline)
    return Job.of(answer.json())


def _all(path: str, *, deadline: float) -> Plan[list[JsonObject]]:
    """The entries of every page."""
    entries: list[JsonObject] = []
    cursor: str | None = None
    while True:
        answer: Answer = yield from answered(get(path, cursor=cursor), deadline=deadline)
        page = answer.json()
        entries += page["data"]
        if not page.get("has_more"):
            return entries
        cursor = page["next_cursor"]


def event_of(event_id: str, kind: str, data: Mapping[str, Any]) -> Event:
    return Event(id=int(event_id), kind=kind, data=data)
