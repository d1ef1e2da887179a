"""Both clients against the real API."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from policies.shapes.clips import CLIPS, clip_path
from services.client import (
    ApiError,
    AsyncClient,
    Client,
    Forbidden,
    Invalid,
    Item,
    NotFound,
    Score,
    Unauthenticated,
    VideoRefused,
)  # fmt: skip
from tests.services.client.service_thread import ServiceThread, service_thread

CIRCLE, SQUARE, JITTERY = (clip_path(f"shapes:{name}") for name in ("circle", "square", "square-jittery"))
PROMPT, SQUARES = CLIPS["circle"].prompt, CLIPS["square"].prompt


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceThread]:
    with service_thread(tmp_path_factory.mktemp("service")) as running:
        yield running


@pytest.fixture
def client(service: ServiceThread) -> Iterator[Client]:
    with Client(service.url, api_key=service.key, timeout_s=30) as opened:
        yield opened


def test_a_path_bytes_and_an_uploaded_file_have_the_same_scores(client: Client) -> None:
    file = client.files.upload(CIRCLE)
    videos = (CIRCLE, CIRCLE.read_bytes(), file.id)
    first, *others = [client.score(video=video, prompt=PROMPT) for video in videos]
    assert set(first.raw) == set(first.normalised) == {"VQ", "MQ", "TA"}
    assert first.reward == pytest.approx(sum(first.raw.values()) / 3)
    assert (first.model.name, first.model.kind, first.model.dtype) == ("shapes", "shapes", "float32")
    assert first.model.files["model.safetensors"] == first.model.revision
    assert first.usage.frames == 9
    assert [other.raw for other in others] == [first.raw] * 2


def test_dimensions_can_be_chosen(client: Client) -> None:
    assert set(client.score(video=CIRCLE, prompt=PROMPT, dimensions=["TA"]).raw) == {"TA"}


def test_many_videos_in_their_order_with_an_error_where_one_fails(client: Client) -> None:
    items = [Item(video=CIRCLE, prompt=PROMPT, id="a"), (b"no video", PROMPT), (SQUARE, "a cat"), (SQUARE, SQUARES)]
    first, second, third, fourth = client.score_many(items)
    assert isinstance(first, Score) and first.id == "a" and isinstance(fourth, Score)
    assert isinstance(second, VideoRefused) and second.code == "video_container_not_allowed"
    assert isinstance(third, Invalid) and third.code == "input_refused" and third.request_id


def test_a_video_that_fails_alone_is_raised_with_its_reason(client: Client) -> None:
    with pytest.raises(VideoRefused, match="neither MP4 nor WebM") as caught:
        client.score(video=b"no video", prompt=PROMPT)
    assert (caught.value.status, caught.value.retryable) == (422, False)
    with pytest.raises(NotFound) as missing:
        client.score(video="0" * 64, prompt=PROMPT)
    assert missing.value.code == "file_not_found"
    with pytest.raises(NotFound) as unknown:
        client.score(video=CIRCLE, prompt=PROMPT, model="other")
    assert unknown.value.code == "model_not_found"


def test_videos_of_one_prompt_are_ranked_and_those_that_fail_keep_their_number(client: Client) -> None:
    comparison = client.compare(SQUARES, [b"no video", JITTERY, SQUARE])
    assert [place.index for place in comparison.ranking] == [2, 1] and comparison.best == 2
    refused, worse, better = comparison.scores
    assert isinstance(refused, VideoRefused) and isinstance(worse, Score) and isinstance(better, Score)
    assert comparison.ranking[0].margin_to_next == pytest.approx(better.reward - worse.reward)
    assert not comparison.tie and client.compare(SQUARES, [SQUARE, SQUARE]).tie
    with pytest.raises(VideoRefused):
        client.compare(SQUARES, [b"no video", SQUARE])


def test_files_are_listed_once_and_go(client: Client) -> None:
    one, again = client.files.upload(SQUARE), client.files.upload(SQUARE.read_bytes())
    assert one.id == again.id and one.bytes == SQUARE.stat().st_size
    assert [file.id for file in client.files.list()].count(one.id) == 1
    client.files.delete(one.id)
    assert one.id not in [file.id for file in client.files.list()]
    assert isinstance(client.score_many([(SQUARE, SQUARES)])[0], Score), "it is uploaded again"


def test_a_file_that_was_deleted_elsewhere_is_uploaded_again(client: Client, service: ServiceThread) -> None:
    client.score_many([(JITTERY, SQUARES)])
    with Client(service.url, api_key=service.key) as other:
        (file,) = [file for file in other.files.list() if file.bytes == JITTERY.stat().st_size]
        other.files.delete(file.id)
    assert isinstance(client.score_many([(JITTERY, SQUARES)])[0], Score)


def test_a_job_is_submitted_watched_and_has_its_scores(client: Client) -> None:
    job = client.jobs.submit([(CIRCLE, PROMPT), (SQUARE, "a cat")])
    events = list(client.jobs.events(job.id, timeout_s=30))
    assert [event.id for event in events] == list(range(1, len(events) + 1))
    assert events[0].data["state"] == "queued" and events[-1].data["state"] == "succeeded"
    ended = client.jobs.wait(job.id, timeout_s=30)
    assert ended.state == "succeeded" and ended.has_ended and ended.scores is not None
    assert isinstance(ended.scores[0], Score) and isinstance(ended.scores[1], Invalid)
    assert list(client.jobs.events(job.id, after=len(events))) == []
    assert client.jobs.cancel(job.id).state == "succeeded"
    assert job.id in [known.id for known in client.jobs.list()]


def test_models_and_strangers(client: Client, service: ServiceThread) -> None:
    (model,) = client.models()
    assert (model.name, model.dimensions, model.ready) == ("shapes", ("VQ", "MQ", "TA"), True)
    with Client(service.url, api_key="nonsense") as stranger, pytest.raises(Unauthenticated):
        stranger.models()
    assert issubclass(Forbidden, ApiError)


async def test_asyncio(service: ServiceThread) -> None:
    async with AsyncClient(service.url, api_key=service.key, timeout_s=30) as client:
        score = await client.score(video=CIRCLE, prompt=PROMPT)
        results = await client.score_many([(CIRCLE, PROMPT), (b"no video", PROMPT)])
        assert isinstance(results[0], Score) and results[0].raw == score.raw and isinstance(results[1], VideoRefused)
        assert (await client.compare(SQUARES, [JITTERY, SQUARE])).best == 1
        job = await client.jobs.submit([(CIRCLE, PROMPT)])
        assert [event.data async for event in client.jobs.events(job.id)][-1]["state"] == "succeeded"
        assert (await client.jobs.wait(job.id)).state == "succeeded"
        file = await client.files.upload(CIRCLE)
        assert file.id in [one.id for one in await client.files.list()]
        assert [model.name for model in await client.models()] == ["shapes"]


def test_a_video_that_is_too_large_for_a_request_is_uploaded(client: Client, tmp_path: Path) -> None:
    large = tmp_path / "large.mp4"
    large.write_bytes(CIRCLE.read_bytes() + (3 * 2**20).to_bytes(4, "big") + b"free" + bytes(3 * 2**20 - 8))
    assert client.score(video=large, prompt=PROMPT).raw == client.score(video=CIRCLE, prompt=PROMPT).raw
    assert large.stat().st_size in [file.bytes for file in client.files.list()]
