"""Jobs over HTTP: accepted, worked on by the real engine and reward model, watched, canceled, resumed elsewhere."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import httpx2
import pytest
import pytest_asyncio

from cluster.serving.values import ModelFacts, ScoreItem
from services.gateway import events, jobs
from services.gateway.app import create_app
from services.gateway.background import GatewayTasks, sweep
from services.gateway.examples import CLIP, OTHER_CLIP, PROMPT
from services.gateway.files_sweep import LEFT_S
from services.gateway.job_attempt import Pace
from services.gateway.score_work import ScoreWork
from services.scoring.model import Outcome, ScoringModel
from tests.services.gateway.conftest import Service
from tests.services.gateway.test_files import on_disk, upload
from tests.services.in_process_model import InProcessModels
from tests.services.media.clips import clip

pytestmark = pytest.mark.asyncio(loop_scope="module")

FAST = Pace(lease_s=10.0, renew_s=0.1, look_s=0.02, longest_backoff_s=0.1, progress_s=0.01)
ASYNC = {"Prefer": "respond-async"}
LIMIT_S = 30.0


def inline(data: bytes, kind: str = "mp4") -> dict[str, str]:
    return {"data": f"data:video/{kind};base64,{base64.b64encode(data).decode()}"}


def request(count: int = 1, **more: Any) -> dict[str, Any]:
    """So many items with two different videos."""
    videos = [{"data": CLIP}, {"data": OTHER_CLIP}]
    return {"items": [{"prompt": PROMPT, "video": videos[index % 2]} for index in range(count)], **more}


class HeldModel:
    """The real model, behind a door."""

    def __init__(self, model: ScoringModel) -> None:
        self._model, self.open = model, asyncio.Event()
        self.waiting, self.canceled = 0, 0
        self.is_ready, self.queued = True, 0

    @property
    def facts(self) -> ModelFacts:
        return self._model.facts

    async def score(
        self, items: Sequence[ScoreItem], *, caller: str, deadline: float, alone: bool = False
    ) -> list[Outcome]:
        self.waiting += 1
        try:
            await self.open.wait()
        except asyncio.CancelledError:
            self.canceled += 1
            raise
        finally:
            self.waiting -= 1
        return await self._model.score(items, caller=caller, deadline=deadline, alone=alone)


@pytest.fixture
def held(shapes: InProcessModels) -> HeldModel:
    model = shapes.get("shapes")
    assert model is not None
    return HeldModel(model)


class Site:
    """A service whose jobs are worked on, and a client with a key of every scope."""

    def __init__(self, service: Service, tasks: GatewayTasks, client: httpx2.AsyncClient) -> None:
        self.service, self.tasks, self.client = service, tasks, client
        self.jobs = service.gateway.store.jobs

    async def accept(self, value: dict[str, Any], client: httpx2.AsyncClient | None = None, **headers: str) -> str:
        answer = await (client or self.client).post("/v1/score", json=value, headers=ASYNC | headers)
        assert answer.status_code == 202, answer.text
        assert answer.headers["Location"] == f"/v1/jobs/{answer.json()['id']}"
        return str(answer.json()["id"])

    async def ended(self, job_id: str, client: httpx2.AsyncClient | None = None) -> Any:
        answer = await (client or self.client).get(f"/v1/jobs/{job_id}", params={"wait": LIMIT_S})
        assert answer.status_code == 200 and answer.json()["ended_at"] is not None, answer.text
        return answer.json()


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(LIMIT_S):
        while not condition():
            await asyncio.sleep(0.005)


@pytest_asyncio.fixture(loop_scope="module")
async def make_site(make_service: Any) -> AsyncIterator[Any]:
    sites: list[Site] = []

    async def make(*, is_working: bool = True, **options: Any) -> Site:
        service = await make_service(**options)
        work = ScoreWork(service.gateway, service.app.state.engine)
        tasks = GatewayTasks(service.gateway, work, pace=FAST)
        if is_working:
            await tasks.start()
        sites.append(Site(service, tasks, service.client(service.admin)))
        return sites[-1]

    yield make
    for site in sites:
        await site.tasks.stop(0)
        await site.client.aclose()


@pytest_asyncio.fixture(loop_scope="module")
async def site(make_site: Any) -> Site:
    made: Site = await make_site()
    return made


@pytest_asyncio.fixture(loop_scope="module")
async def held_site(make_site: Any, held: HeldModel) -> Site:
    made: Site = await make_site(models=InProcessModels({"shapes": held}))
    return made


def numbers(answer: Any) -> list[Any]:
    return [(entry["index"], entry["scores"], entry["reward"]) for entry in answer["data"]]


async def test_a_job_comes_to_the_answer_of_a_request_that_waits(site: Site) -> None:
    at_once = (await site.client.post("/v1/score", json=request(3))).json()
    job = await site.ended(await site.accept(request(3)))
    assert (job["object"], job["state"], job["attempt"], job["error"]) == ("job", "succeeded", 1, None)
    assert numbers(job["result"]) == numbers(at_once) and job["result"]["object"] == "list"
    assert job["progress"] == {"done": 3, "failed": 0, "total": 3} and job["queue_position"] is None
    assert job["created_at"] <= job["started_at"] <= job["ended_at"]
    assert (await site.client.get(job["urls"]["result"])).json() == job["result"]


async def test_a_request_with_many_items_becomes_a_job_by_itself(make_site: Any) -> None:
    site = await make_site(limits={"sync_items": 2})
    assert (await site.client.post("/v1/score", json=request(2))).status_code == 200
    answer = await site.client.post("/v1/score", json=request(3))
    assert answer.status_code == 202
    assert (await site.ended(answer.json()["id"]))["state"] == "succeeded"


@pytest.mark.parametrize("prefer", ["respond-async", "Respond-Async", "wait=5, respond-async; x=y"])
async def test_a_wish_for_a_job_is_heard(site: Site, prefer: str) -> None:
    await site.accept(request(), Prefer=prefer)


async def test_items_that_fail_are_in_their_place_and_counted(site: Site) -> None:
    value = request(2)
    value["items"].insert(1, {"prompt": "x", "video": inline(b"GIF89a" + bytes(100))})
    value["items"].append({"prompt": "", "video": inline(clip())})
    value["items"].append({"prompt": "x", "video": {"data": "data:video/mp4;base64,%%%"}})
    job = await site.ended(await site.accept(value))
    problems = [entry.get("error", {}).get("code") for entry in job["result"]["data"]]
    assert problems == [None, "video_container_not_allowed", None, "invalid_request", "invalid_data_url"]
    assert job["state"] == "succeeded" and job["result"]["partial"]
    assert job["progress"] == {"done": 5, "failed": 3, "total": 5}


async def test_a_job_none_of_whose_items_have_scores_failed(site: Site) -> None:
    job = await site.ended(await site.accept({"items": [{"prompt": "x", "video": {"file_id": "0" * 64}}]}))
    assert (job["state"], job["result"], job["error"]["code"]) == ("failed", None, "file_not_found")
    result = await site.client.get(job["urls"]["result"])
    assert (result.status_code, result.json()["code"]) == (409, "job_failed")


async def test_what_is_wrong_with_the_whole_request_is_said_before_there_is_a_job(site: Site) -> None:
    for value in ({}, {"items": []}, request(model="none"), request(more=1)):
        assert (await site.client.post("/v1/score", json=value, headers=ASYNC)).status_code in (404, 422)
    assert (await site.client.get("/v1/jobs")).json()["data"] == []


async def test_a_video_that_is_too_large_is_said_before_there_is_a_job(make_site: Any) -> None:
    site = await make_site(media={"max_bytes": 500})
    answer = await site.client.post("/v1/score", json=request(), headers=ASYNC)
    assert (answer.status_code, answer.json()["code"]) == (413, "video_too_large") and not on_disk(site.service)


async def test_jobs_are_their_owners(site: Site) -> None:
    job_id = await site.accept(request())
    async with site.service.client(await site.service.token("score")) as other:
        for method, path in (("GET", ""), ("GET", "/events"), ("GET", "/result"), ("POST", "/cancel")):
            answer = await other.request(method, f"/v1/jobs/{job_id}{path}")
            assert (answer.status_code, answer.json()["code"]) == (404, "job_not_found")
        assert (await other.get("/v1/jobs")).json()["data"] == []
    assert (await site.ended(job_id))["state"] == "succeeded"


async def test_jobs_come_in_pages_newest_first(make_site: Any) -> None:
    site = await make_site(is_working=False)
    made = [await site.accept(request()) for _ in range(5)]
    page = (await site.client.get("/v1/jobs", params={"limit": 3})).json()
    assert [job["id"] for job in page["data"]] == made[:1:-1] and page["has_more"]
    await site.accept(request())
    page = (await site.client.get("/v1/jobs", params={"limit": 3, "cursor": page["next_cursor"]})).json()
    assert [job["id"] for job in page["data"]] == made[1::-1] and not page["has_more"]


async def test_a_queued_job_knows_its_place(make_site: Any) -> None:
    site = await make_site(is_working=False)
    ids = [await site.accept(request()) for _ in range(3)]
    views = [(await site.client.get(f"/v1/jobs/{job_id}")).json() for job_id in ids]
    assert [view["queue_position"] for view in views] == [0, 1, 2]
    assert all(view["state"] == "queued" and view["progress"] is None for view in views)


async def test_waiting_ends_with_the_time_or_with_the_job(held_site: Site, held: HeldModel) -> None:
    job_id = await held_site.accept(request())
    early = (await held_site.client.get(f"/v1/jobs/{job_id}", params={"wait": 0.05})).json()
    assert early["ended_at"] is None
    waiting = asyncio.create_task(held_site.ended(job_id))
    await until(lambda: held.waiting)
    held.open.set()
    assert (await waiting)["state"] == "succeeded"


async def test_a_job_that_runs_has_no_result_yet(held_site: Site, held: HeldModel) -> None:
    job_id = await held_site.accept(request())
    await until(lambda: held.waiting)
    answer = await held_site.client.get(f"/v1/jobs/{job_id}/result")
    assert (answer.status_code, answer.json()["code"]) == (409, "job_not_finished") and answer.headers["Retry-After"]


async def test_a_caller_may_wait_so_many_times_at_once(
    held_site: Site, held: HeldModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "MOST_OF_A_CALLER", 2)
    job_id, desk = await held_site.accept(request()), held_site.service.gateway.desk
    waiting = [asyncio.create_task(held_site.ended(job_id)) for _ in range(2)]
    await until(lambda: desk.watchers == 2)
    for path in (f"/v1/jobs/{job_id}?wait=1", f"/v1/jobs/{job_id}/events"):
        answer = await held_site.client.get(path)
        assert (answer.status_code, answer.json()["code"]) == (429, "too_many_wait")
    assert (await held_site.client.get(f"/v1/jobs/{job_id}")).status_code == 200
    held.open.set()
    await asyncio.gather(*waiting)
    assert desk.watchers == 0


@pytest.mark.parametrize("path", ["x", "0" * 31, "0" * 32, "G" * 32])
async def test_what_is_no_job_is_refused(site: Site, path: str) -> None:
    for suffix in ("", "/events", "/result"):
        assert (await site.client.get(f"/v1/jobs/{path}{suffix}")).status_code in (404, 422)


class TestCanceling:
    async def test_a_queued_job_is_never_begun(self, make_site: Any) -> None:
        site = await make_site(is_working=False)
        job_id = await site.accept(request())
        for _ in range(2):
            answer = (await site.client.post(f"/v1/jobs/{job_id}/cancel")).json()
            assert (answer["state"], answer["result"]) == ("canceled", None)
        result = await site.client.get(f"/v1/jobs/{job_id}/result")
        assert (result.status_code, result.json()["code"]) == (409, "job_canceled")
        assert not on_disk(site.service)

    async def test_a_running_one_stops_at_once_and_its_items_leave_the_queue(
        self, held_site: Site, held: HeldModel
    ) -> None:
        job_id = await held_site.accept(request(4))
        await until(lambda: held.waiting == 4)
        await held_site.client.post(f"/v1/jobs/{job_id}/cancel")
        await until(lambda: held.canceled == 4 and not on_disk(held_site.service))
        assert (await held_site.ended(job_id))["state"] == "canceled"

    async def test_one_that_has_ended_stays_as_it_is(self, site: Site) -> None:
        job_id = await site.accept(request())
        job = await site.ended(job_id)
        assert (await site.client.post(f"/v1/jobs/{job_id}/cancel")).json() == job


def parsed(text: str) -> list[tuple[int, str, Any]]:
    """(id, event, data) of each event of a stream."""
    found = []
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith((":", "retry")))
        if fields:
            found.append((int(fields["id"]), fields["event"], json.loads(fields["data"])))
    return found


class TestEvents:
    async def test_a_listener_hears_everything_in_order_until_the_end(self, site: Site) -> None:
        job_id = await site.accept(request(3))
        answer = await site.client.get(f"/v1/jobs/{job_id}/events")
        assert answer.headers["Content-Type"].startswith("text/event-stream") and answer.status_code == 200
        heard = parsed(answer.text)
        assert [number for number, _, _ in heard] == list(range(1, len(heard) + 1))
        states = [data["state"] for _, name, data in heard if name == "state"]
        assert states == ["queued", "running", "succeeded"]
        assert heard[-2][1] == "progress" and heard[-2][2]["done"] == heard[-2][2]["total"] == 3

    async def test_one_that_comes_back_hears_the_rest(self, site: Site) -> None:
        job_id = await site.accept(request(2))
        url = f"/v1/jobs/{job_id}/events"
        heard = parsed((await site.client.get(url)).text)
        for last in (1, 2, len(heard)):
            again = await site.client.get(url, headers={"Last-Event-ID": str(last)})
            assert parsed(again.text) == heard[last:]
        assert parsed((await site.client.get(url, headers={"Last-Event-ID": "999"})).text) == []

    @pytest.mark.parametrize("last", ["x", "-1", "1.5", "9" * 30])
    async def test_an_id_that_is_none_is_refused(self, site: Site, last: str) -> None:
        job_id = await site.accept(request())
        answer = await site.client.get(f"/v1/jobs/{job_id}/events", headers={"Last-Event-ID": last})
        assert (answer.status_code, answer.json()["errors"][0]["parameter"]) == (422, "last-event-id")

    async def test_a_silent_stream_has_a_heartbeat(
        self, held_site: Site, held: HeldModel, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(events, "HEARTBEAT_S", 0.02)
        monkeypatch.setattr(events, "LOOK_S", 0.02)
        job_id = await held_site.accept(request())
        listening = asyncio.create_task(held_site.client.get(f"/v1/jobs/{job_id}/events"))
        await until(lambda: held.waiting)
        await asyncio.sleep(0.2)
        held.open.set()
        text = (await listening).text
        assert text.count("\n:\n\n") + text.count("\n\n:\n") >= 2 and parsed(text)[-1][2] == {"state": "succeeded"}

    async def test_streams_end_when_the_server_does(self, held_site: Site, held: HeldModel) -> None:
        job_id = await held_site.accept(request())
        listening = asyncio.create_task(held_site.client.get(f"/v1/jobs/{job_id}/events"))
        await until(lambda: held.waiting)
        await held_site.tasks.stop(0)
        async with asyncio.timeout(LIMIT_S):
            heard = parsed((await listening).text)
        assert heard[-1][2]["state"] != "succeeded" or held.open.is_set()


class TestRepetition:
    async def test_a_repeated_request_finds_its_job(self, site: Site) -> None:
        key = {"Idempotency-Key": "j-1"}
        first = await site.accept(request(), **key)
        again = await site.client.post("/v1/score", json=request(), headers=ASYNC | key)
        assert (again.status_code, again.json()["id"], again.headers["Idempotent-Replayed"]) == (202, first, "true")
        assert again.headers["Location"] == f"/v1/jobs/{first}"
        assert len((await site.client.get("/v1/jobs")).json()["data"]) == 1

    async def test_a_job_whose_acknowledgement_was_lost_is_found_not_made_twice(
        self, site: Site, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The job was made, and then the answer failed: 500."""
        key = {"Idempotency-Key": "j-2"}

        async def broken(_: Any) -> None:
            raise RuntimeError("boom")

        with monkeypatch.context() as patch:
            patch.setattr(site.jobs, "ahead_of", broken)
            lost = await site.client.post("/v1/score", json=request(), headers=ASYNC | key)
            assert lost.status_code == 500
        await site.ended(await site.accept(request(), **key))
        assert len((await site.client.get("/v1/jobs")).json()["data"]) == 1

    async def test_canceling_may_be_repeated(self, site: Site) -> None:
        job_id, key = await site.accept(request()), {"Idempotency-Key": "j-3"}
        answers = [await site.client.post(f"/v1/jobs/{job_id}/cancel", headers=key) for _ in range(2)]
        assert answers[0].content == answers[1].content and "Idempotent-Replayed" in answers[1].headers

    async def test_a_score_is_given_again(self, site: Site) -> None:
        key = {"Idempotency-Key": "j-4"}
        answers = [await site.client.post("/v1/score", json=request(), headers=key) for _ in range(2)]
        assert answers[0].content == answers[1].content and "Idempotent-Replayed" in answers[1].headers
        other = await site.client.post("/v1/score", json=request(2), headers=key)
        assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")


async def test_so_many_jobs_may_wait(make_site: Any) -> None:
    site = await make_site(is_working=False, limits={"unfinished_jobs": 2})
    first, _ = await site.accept(request()), await site.accept(request())
    answer = await site.client.post("/v1/score", json=request(), headers=ASYNC)
    assert (answer.status_code, answer.json()["code"]) == (503, "queue_full") and answer.headers["Retry-After"]
    await site.client.post(f"/v1/jobs/{first}/cancel")
    await site.accept(request())


class TestVideos:
    async def test_inline_videos_lie_in_the_folder_until_the_job_ends(self, held_site: Site, held: HeldModel) -> None:
        job_id = await held_site.accept(request(2))
        await until(lambda: held.waiting)
        lease = await held_site.jobs.get(job_id)
        assert lease is not None and len(on_disk(held_site.service)) == 2
        kept = await held_site.jobs._records.read([f"jobs/{job_id}/request"])
        assert b"base64" not in kept[0] and len(kept[0]) < 1000
        assert (await held_site.client.get("/v1/files")).json()["data"] == []
        held.open.set()
        await held_site.ended(job_id)
        await until(lambda: not on_disk(held_site.service))

    async def test_a_file_that_is_deleted_after_the_job_was_accepted_is_still_scored(
        self, held_site: Site, held: HeldModel
    ) -> None:
        file_id = (await upload(held_site.client, base64.b64decode(CLIP.partition(",")[2]))).json()["id"]
        job_id = await held_site.accept({"items": [{"prompt": PROMPT, "video": {"file_id": file_id}}]})
        await held_site.client.delete(f"/v1/files/{file_id}")
        held.open.set()
        assert (await held_site.ended(job_id))["state"] == "succeeded"
        await until(lambda: not on_disk(held_site.service))

    async def test_files_of_others_are_not_read(self, site: Site) -> None:
        async with site.service.client(await site.service.token("score")) as other:
            file_id = (await upload(other, clip())).json()["id"]
        value = request()
        value["items"].append({"prompt": "x", "video": {"file_id": file_id}})
        job = await site.ended(await site.accept(value))
        assert [entry.get("error", {}).get("code") for entry in job["result"]["data"]] == [None, "file_not_found"]

    async def test_files_of_jobs_that_are_over_are_swept(self, make_site: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        """A server that is killed between the end of a job and the release of its files leaves them."""
        site = await make_site(is_working=False)
        over, waiting = await site.accept(request()), await site.accept({"items": request(2)["items"][1:]})
        await site.jobs.cancel(over)
        await sweep(site.service.gateway)
        assert len(on_disk(site.service)) == 2
        monkeypatch.setattr("services.gateway.files_sweep.LEFT_S", -LEFT_S)
        await sweep(site.service.gateway)
        assert len(on_disk(site.service)) == 1
        await site.tasks.start()
        assert (await site.ended(waiting))["state"] == "succeeded"


async def test_a_job_goes_on_after_a_restart_and_ends_once(make_site: Any, held_site: Site, held: HeldModel) -> None:
    job_id = await held_site.accept(request(2))
    await until(lambda: held.waiting == 2)
    await held_site.tasks.stop(0)
    again = await make_site()
    async with again.service.client(held_site.service.admin) as client:
        job = await again.ended(job_id, client)
        heard = parsed((await client.get(f"/v1/jobs/{job_id}/events")).text)
    assert (job["state"], job["attempt"], len(job["result"]["data"])) == ("succeeded", 2, 2)
    states = [data["state"] for _, name, data in heard if name == "state"]
    assert states == ["queued", "running", "running", "succeeded"]


async def test_two_servers_over_one_store_do_each_job_once(make_site: Any) -> None:
    first, second = await make_site(), await make_site()
    ids = [await first.accept(request()) for _ in range(6)]
    for job_id in ids:
        job = await first.ended(job_id)
        assert (job["state"], job["attempt"]) == ("succeeded", 1)
    assert second.tasks.worker.running == 0


async def test_what_is_over_for_long_is_forgotten(make_site: Any) -> None:
    site = await make_site(limits={"jobs_kept_s": 0.001})
    job_id = await site.accept(request())
    await site.ended(job_id)
    await asyncio.sleep(0.01)
    await sweep(site.service.gateway)
    assert (await site.client.get(f"/v1/jobs/{job_id}")).status_code == 404


async def test_a_new_app_over_the_same_gateway_knows_the_same_jobs(site: Site) -> None:
    job_id = await site.accept(request())
    transport = httpx2.ASGITransport(create_app(site.service.gateway))
    headers = {"Authorization": f"Bearer {site.service.admin}"}
    async with httpx2.AsyncClient(transport=transport, base_url="http://localhost", headers=headers) as client:
        assert (await client.get(f"/v1/jobs/{job_id}")).json()["id"] == job_id


async def test_a_request_that_cannot_be_kept_leaves_nothing(make_site: Any) -> None:
    """One of its videos is too large, the others are not."""
    site = await make_site(is_working=False, media={"max_bytes": 2000})
    value = request(2)
    value["items"] += [{"prompt": PROMPT, "video": inline(bytes([number]) * 500)} for number in range(20)]
    value["items"].append({"prompt": PROMPT, "video": inline(bytes(3000))})
    answer = await site.client.post("/v1/score", json=value, headers=ASYNC)
    assert (answer.status_code, answer.json()["code"]) == (413, "video_too_large")
    assert not on_disk(site.service) and await site.jobs.unfinished() == 0
