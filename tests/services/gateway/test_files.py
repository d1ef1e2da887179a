"""Files over HTTP, in this process."""

import asyncio
import errno
import hashlib
import lzma
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from services.gateway import files_check
from services.gateway.examples import CLIP, PROMPT
from services.gateway.files_check import UploadCheck
from services.gateway.state import Gateway
from services.media.guard import MediaGuard
from services.media.refusal import GuardBusy
from tests.services.gateway.conftest import Service
from tests.services.media import clips
from tests.services.media.clips import clip, tone, with_external_reference, with_size

pytestmark = pytest.mark.asyncio(loop_scope="module")

PART = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
MP4 = {"Content-Type": "video/mp4"}
BOMBS = Path(clips.__file__).parent / "bombs"


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def on_disk(service: Service) -> set[str]:
    """All files in the folder, those on their way too."""
    folder: Path = service.gateway.files._folder
    return {path.name for path in folder.rglob("*") if path.is_file()}


def code(response: httpx2.Response) -> tuple[int, str]:
    assert response.headers["content-type"] == "application/problem+json"
    return response.status_code, response.json()["code"]


async def upload(client: httpx2.AsyncClient, data: bytes, **headers: str) -> httpx2.Response:
    return await client.post("/v1/files", content=data, headers=MP4 | headers)


async def test_an_upload_is_kept_by_its_hash(service: Service, client: httpx2.AsyncClient) -> None:
    data = clip()
    first = await upload(client, data)
    assert first.status_code == 201
    body = first.json()
    assert body == {
        "id": sha256(data), "object": "file", "bytes": len(data), "media_type": "video/mp4",
        "created_at": body["created_at"], "deduplicated": False,
        "video": {
            "container": "mp4", "codec": "h264", "frames": 8, "height": 64, "width": 96, "fps": 8.0, "seconds": 1.0,
        },
    }  # fmt: skip
    again = await upload(client, data)
    assert again.status_code == 200 and again.json() == {**body, "deduplicated": True}
    assert on_disk(service) == {sha256(data)}
    del body["deduplicated"]
    assert (await client.get(f"/v1/files/{sha256(data)}")).json() == body


@pytest.mark.parametrize("announced", ["video/webm", "application/octet-stream", "VIDEO/MP4; x=y"])
async def test_the_media_type_is_what_the_bytes_are(client: httpx2.AsyncClient, announced: str) -> None:
    answer = await upload(client, clip("webm", "vp9"), **{"Content-Type": announced})
    assert answer.status_code == 201 and answer.json()["media_type"] == "video/webm"


async def test_a_form_is_taken_and_the_name_in_it_ignored(service: Service, client: httpx2.AsyncClient) -> None:
    data = clip()
    answer = await client.post("/v1/files", files={"file": ("../../etc/passwd\n.html", data, "text/html")})
    assert (answer.status_code, answer.json()["id"], answer.json()["media_type"]) == (201, sha256(data), "video/mp4")
    assert on_disk(service) == {sha256(data)} and "passwd" not in answer.text


async def test_cve_2025_54381_a_string_in_the_place_of_a_file_is_refused(
    service: Service, client: httpx2.AsyncClient
) -> None:
    """There, a service fetched the address that a form had where a file was expected."""
    for value in ("http://169.254.169.254/latest/meta-data", "file:///etc/passwd", clip().decode("latin-1")):
        answer = await client.post("/v1/files", files={"file": (None, value)})
        assert code(answer) == (422, "not_one_file")
    answer = await client.post("/v1/files", data={"file": "http://127.0.0.1/clip.mp4"})
    assert code(answer) == (415, "unsupported_media_type")
    assert not on_disk(service)


@pytest.mark.parametrize(
    "files",
    [
        {"video": ("a.mp4", b"x")},
        {"file": ("a.mp4", b"x"), "more": (None, "y")},
        [("file", ("a.mp4", b"x")), ("file", ("b.mp4", b"y"))],
    ],
    ids=["another field", "a field beside it", "two files"],
)
async def test_a_form_has_one_file_and_nothing_else(service: Service, client: httpx2.AsyncClient, files: Any) -> None:
    assert code(await client.post("/v1/files", files=files)) == (422, "not_one_file")
    assert not on_disk(service)


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("multipart/form-data", b"x"),
        ("multipart/form-data; boundary=", b"x"),
        ("multipart/form-data; boundary=" + "b" * 300, b"x"),
        ("multipart/form-data; boundary=b", b"no form at all"),
        ("multipart/form-data; boundary=b", PART + b"half"),
        ("multipart/form-data; boundary=b", b"--b\r\n" + b"X: y\r\n" * 20 + b"\r\nz\r\n--b--\r\n"),
        ("multipart/form-data; boundary=b", b"--b\r\nX: " + b"y" * 10_000 + b"\r\n\r\nz\r\n--b--\r\n"),
    ],
)  # fmt: skip
async def test_a_form_that_is_none_is_refused(
    service: Service, client: httpx2.AsyncClient, content_type: str, body: bytes
) -> None:
    answer = await upload(client, body, **{"Content-Type": content_type})
    assert code(answer) == (400, "malformed_form") and not on_disk(service)


@pytest.mark.parametrize(
    "content_type", ["text/html", "image/gif", "", "multipart/mixed; boundary=b", "video/quicktime"]
)
async def test_other_content_types_are_refused(client: httpx2.AsyncClient, content_type: str) -> None:
    assert code(await upload(client, clip(), **{"Content-Type": content_type})) == (415, "unsupported_media_type")


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", (422, "video_empty")),
        (b"ffconcat version 1.0\nfile a.mp4\n", (422, "video_container_not_allowed")),
        (b"#EXTM3U\n" + b"x" * 10_000, (422, "video_container_not_allowed")),
        (clip("webm", "vp9")[:-100], (422, "video_truncated")),
        (clip()[:-100], (422, "video_truncated")),
        (clip("mp4", "hevc"), (422, "video_codec_not_allowed")),
        (tone(), (422, "video_no_video")),
        (with_external_reference(clip()), (422, "video_external_reference")),
        (lzma.decompress((BOMBS / "bomb.mp4.xz").read_bytes()), (422, "video_frame_too_large")),
        (with_size(lzma.decompress((BOMBS / "bomb.mp4.xz").read_bytes()), 64, 64), (422, "video_decoded_too_large")),
    ],
    ids=["nothing", "ffconcat", "hls", "cut off", "mp4 cut off", "hevc", "sound", "external", "bomb", "lying bomb"],
)
async def test_what_is_no_video_is_refused_and_not_kept(
    service: Service, client: httpx2.AsyncClient, data: bytes, expected: tuple[int, str]
) -> None:
    assert code(await upload(client, data)) == expected
    assert code(await client.post("/v1/files", files={"file": ("a", data)})) == expected
    assert not on_disk(service) and (await client.get("/v1/files")).json()["data"] == []


async def test_what_is_refused_at_once_and_twice_at_the_same_time_leaves_nothing(
    service: Service, client: httpx2.AsyncClient
) -> None:
    answers = await asyncio.gather(*(upload(client, clip("mp4", "hevc")) for _ in range(6)))
    assert {code(answer) for answer in answers} == {(422, "video_codec_not_allowed")} and not on_disk(service)


async def test_a_file_that_nobody_had_time_to_look_at_is_kept_and_looked_at_later(
    service: Service, client: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def busy(*arguments: object, **more: object) -> None:
        raise GuardBusy("64 videos wait for a decoder already; try again later")

    async def never(*arguments: object, **more: object) -> None:
        await asyncio.Event().wait()

    for number, decode in enumerate((busy, never)):
        with monkeypatch.context() as patched:
            patched.setattr(MediaGuard, "decode", decode)
            patched.setattr(files_check, "CHECK_S", 0.05)
            answer = await upload(client, clip(seed=40 + number))
        assert answer.status_code == 201 and answer.json()["video"] is None
    again = await upload(client, clip(seed=40))
    assert again.status_code == 200 and again.json()["video"]["frames"] == 8
    assert (await client.get(f"/v1/files/{again.json()['id']}")).json()["video"] == again.json()["video"]


async def test_uploads_leave_decoders_to_those_who_want_scores(service: Service, client: httpx2.AsyncClient) -> None:
    check: UploadCheck = service.app.state.upload_check
    for _ in range(service.gateway.config.decoders):
        await check._turns.acquire()
    uploading = asyncio.create_task(upload(client, clip(seed=50)))
    scored = await client.post("/v1/score", json={"items": [{"prompt": PROMPT, "video": {"data": CLIP}}]})
    assert scored.status_code == 200 and not uploading.done()
    check._turns.release()
    assert (await uploading).json()["video"]["frames"] == 8


async def test_a_body_above_the_limit_is_refused(make_service: Any) -> None:
    service = await make_service(media={"max_bytes": 100_000})
    data = clip() + bytes(200_000)

    async def endless() -> AsyncIterator[bytes]:
        for start in range(0, len(data), 10_000):
            yield data[start : start + 10_000]

    async with service.client(service.admin) as client:
        assert (await upload(client, data)).status_code == 413
        chunked = await client.post("/v1/files", content=endless(), headers=MP4)
        assert chunked.status_code == 413 and chunked.headers["Connection"] == "close"
        assert (await client.post("/v1/files", files={"file": ("a", data)})).status_code == 413
    assert not on_disk(service)


async def test_all_files_together_have_a_limit_that_deleting_makes_room_in(make_service: Any) -> None:
    first, second = clip(seed=1), clip(seed=2)
    service = await make_service(limits={"files_bytes": len(first) + len(second) - 1})
    async with service.client(service.admin) as client:
        assert (await upload(client, first)).status_code == 201
        assert code(await upload(client, second)) == (507, "storage_full")
        assert (await client.delete(f"/v1/files/{sha256(first)}")).status_code == 200
        assert (await upload(client, second)).status_code == 201
    assert on_disk(service) == {sha256(second)}


async def test_a_disk_that_is_full_is_said_to_be(
    service: Service, client: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        assert code(await upload(client, clip(seed=77))) == (507, "storage_full")
    assert not on_disk(service)


async def test_nobody_sees_the_files_of_others_nor_whether_they_have_one(service: Service) -> None:
    data, path = clip(), f"/v1/files/{sha256(clip())}"
    ada, bob = service.client(await service.token("score")), service.client(await service.token("score"))
    async with ada, bob:
        await upload(ada, data)
        for method, url in (("GET", path), ("GET", f"{path}/content"), ("DELETE", path)):
            assert code(await bob.request(method, url)) == (404, "file_not_found")
        assert (await bob.get("/v1/files")).json()["data"] == []
        his = await upload(bob, data)
        assert (his.status_code, his.json()["deduplicated"]) == (201, False)
        await ada.delete(path)
        assert (await ada.get(path)).status_code == 404
        assert (await bob.get(f"{path}/content")).content == data and on_disk(service) == {sha256(data)}
        assert (await bob.delete(path)).json() == {"id": sha256(data), "object": "file", "deleted": True}
    assert not on_disk(service)


@pytest.mark.parametrize(
    "path", ["/v1/files/xyz", "/v1/files/" + "A" * 64, "/v1/files/..%2f..%2fetc", "/v1/files?limit=0"]
)
async def test_what_is_no_id_is_refused(client: httpx2.AsyncClient, path: str) -> None:
    assert (await client.get(path)).status_code in (404, 422)


async def test_a_key_without_the_scope_may_not(service: Service) -> None:
    async with service.client(await service.token("run")) as client:
        assert code(await upload(client, clip())) == (403, "forbidden")
        assert code(await client.get("/v1/files")) == (403, "forbidden")


async def test_pages_stay_where_they_are_when_files_are_added(client: httpx2.AsyncClient) -> None:
    uploaded = [(await upload(client, clip(seed=seed))).json()["id"] for seed in range(5)]
    first = (await client.get("/v1/files", params={"limit": 2})).json()
    assert [file["id"] for file in first["data"]] == uploaded[:2:-1] and first["has_more"]
    await upload(client, clip(seed=9))
    seen, page = [], first
    while page["has_more"]:
        page = (await client.get("/v1/files", params={"limit": 2, "cursor": page["next_cursor"]})).json()
        seen += [file["id"] for file in page["data"]]
    assert seen == uploaded[2::-1] and page["next_cursor"] is None


@pytest.mark.parametrize("cursor", ["x", "!", "AAAA\0", "é", "a" * 500])
async def test_a_cursor_that_was_not_given_out_is_refused(client: httpx2.AsyncClient, cursor: str) -> None:
    answer = await client.get("/v1/files", params={"cursor": cursor})
    assert answer.status_code in (200, 422) and (
        answer.status_code == 200 or answer.json()["code"] == "invalid_request"
    )


class TestContent:
    @pytest.fixture
    def data(self) -> bytes:
        return clip()

    @pytest.fixture
    def path(self, data: bytes) -> str:
        return f"/v1/files/{sha256(data)}/content"

    async def test_bytes_come_as_a_download_of_a_fixed_type(
        self, client: httpx2.AsyncClient, data: bytes, path: str
    ) -> None:
        await upload(client, data)
        answer = await client.get(path)
        assert answer.content == data and answer.headers["Content-Length"] == str(len(data))
        assert answer.headers["Content-Type"] == "video/mp4" and answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Content-Disposition"].startswith("attachment")
        assert answer.headers["ETag"] == f'"{sha256(data)}"'

    @pytest.mark.parametrize(
        ("header", "expected"),
        [
            ("bytes=0-0", slice(0, 1)), ("bytes=5-", slice(5, None)), ("bytes=-7", slice(-7, None)),
            ("bytes=3-99999999", slice(3, None)), ("bytes=-99999999", slice(None)),
        ],
    )  # fmt: skip
    async def test_a_range(
        self, client: httpx2.AsyncClient, data: bytes, path: str, header: str, expected: slice
    ) -> None:
        await upload(client, data)
        answer = await client.get(path, headers={"Range": header})
        assert (answer.status_code, answer.content) == (206, data[expected])
        start = expected.indices(len(data))[0]
        assert answer.headers["Content-Range"] == f"bytes {start}-{start + len(answer.content) - 1}/{len(data)}"

    @pytest.mark.parametrize(
        "header", ["bytes=0-1,4-5", "bytes=5-4", "bytes=-", "lines=1-2", "bytes=" + "9" * 5000 + "-"]
    )
    async def test_several_ranges_or_none_give_the_whole(
        self, client: httpx2.AsyncClient, data: bytes, path: str, header: str
    ) -> None:
        await upload(client, data)
        answer = await client.get(path, headers={"Range": header})
        assert (answer.status_code, answer.content) == (200, data)

    @pytest.mark.parametrize("header", ["bytes=99999999-", "bytes=-0"])
    async def test_a_range_beyond_the_end(
        self, client: httpx2.AsyncClient, data: bytes, path: str, header: str
    ) -> None:
        await upload(client, data)
        answer = await client.get(path, headers={"Range": header})
        assert code(answer) == (416, "range_not_satisfiable")
        assert answer.headers["Content-Range"] == f"bytes */{len(data)}"

    async def test_whoever_has_it_gets_nothing(self, client: httpx2.AsyncClient, data: bytes, path: str) -> None:
        await upload(client, data)
        for tag in (f'"{sha256(data)}"', f'"x", W/"{sha256(data)}"', "*"):
            answer = await client.get(path, headers={"If-None-Match": tag})
            assert (answer.status_code, answer.content) == (304, b"")
        assert (await client.get(path, headers={"If-None-Match": '"x"'})).status_code == 200
        stale = await client.get(path, headers={"Range": "bytes=0-0", "If-Range": '"x"'})
        assert stale.status_code == 200
        fresh = await client.get(path, headers={"Range": "bytes=0-0", "If-Range": f'"{sha256(data)}"'})
        assert fresh.status_code == 206


class TestRepetition:
    async def test_an_upload_is_answered_as_the_first_time(self, client: httpx2.AsyncClient) -> None:
        key = {"Idempotency-Key": "up-1"}
        first = await upload(client, clip(), **key)
        again = await upload(client, clip(), **key)
        assert (first.status_code, first.content) == (again.status_code, again.content) == (201, first.content)
        assert again.headers["Idempotent-Replayed"] == "true"

    async def test_the_form_around_it_may_differ(self, client: httpx2.AsyncClient) -> None:
        answers = [
            await client.post("/v1/files", files={"file": ("a", clip())}, headers={"Idempotency-Key": "up-2"})
            for _ in range(2)
        ]
        assert answers[0].content == answers[1].content and "Idempotent-Replayed" in answers[1].headers

    async def test_another_file_is_refused_and_not_kept(self, service: Service, client: httpx2.AsyncClient) -> None:
        key = {"Idempotency-Key": "up-3"}
        await upload(client, clip(), **key)
        answer = await upload(client, clip(seed=5), **key)
        assert code(answer) == (422, "idempotency_key_reused") and on_disk(service) == {sha256(clip())}

    async def test_a_key_that_is_none_is_refused_before_a_byte_is_read(self, client: httpx2.AsyncClient) -> None:
        assert code(await upload(client, clip(), **{"Idempotency-Key": "a b"})) == (400, "invalid_idempotency_key")


async def test_uploads_and_deletions_of_the_same_bytes_at_once_leave_folder_and_index_in_step(service: Service) -> None:
    data, tokens = clip(), [await service.token("score") for _ in range(4)]

    async def churn(token: str) -> None:
        async with service.client(token) as client:
            for _ in range(12):
                assert (await upload(client, data)).status_code in (200, 201)
                assert (await client.get(f"/v1/files/{sha256(data)}/content")).content == data
                assert (await client.delete(f"/v1/files/{sha256(data)}")).status_code == 200

    await asyncio.gather(*map(churn, tokens))
    assert not on_disk(service) and await service.gateway.store.files.get(sha256(data)) is None


async def test_bytes_that_another_server_just_enters_are_not_taken_away(
    service: Service, client: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other server's upload of the same bytes falls between the last owner's deletion and the look after it."""
    data, gateway = clip(), service.gateway
    await upload(client, data)
    set_aside = gateway.files.set_aside

    def meanwhile(sha: str) -> bool:
        done = set_aside(sha)
        asyncio.get_running_loop().create_task(_enter(gateway, sha))
        return done

    monkeypatch.setattr(gateway.files, "set_aside", meanwhile)
    get = gateway.store.files.get

    async def slowly(sha: str) -> Any:
        await asyncio.sleep(0.05)
        return await get(sha)

    monkeypatch.setattr(gateway.store.files, "get", slowly)
    await client.delete(f"/v1/files/{sha256(data)}")
    assert gateway.files.find(sha256(data)) is not None and await get(sha256(data)) is not None


async def _enter(gateway: Gateway, sha: str) -> None:
    await gateway.store.files.put(owner="bob", sha256=sha, size=1, media_type="video/mp4", facts={})


async def test_bytes_that_arrive_while_their_last_owner_lets_them_go_stay(
    service: Service, client: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The upload found them in the folder already, and has not said yet whose they are."""
    data, gateway = clip(), service.gateway
    await upload(client, data)
    keep = gateway.files._keep
    found, go_on = threading.Event(), threading.Event()

    def slowly(*arguments: Any) -> Any:
        stored = keep(*arguments)
        found.set()
        go_on.wait(20)
        return stored

    monkeypatch.setattr(gateway.files, "_keep", slowly)
    async with service.client(await service.token("score")) as other:
        uploading = asyncio.create_task(upload(other, data))
        await asyncio.to_thread(found.wait, 20)
        deleting = asyncio.create_task(client.delete(f"/v1/files/{sha256(data)}"))
        while gateway.files.find(sha256(data)) is not None:
            await asyncio.sleep(0.001)
        go_on.set()
        assert (await uploading).status_code == 201 and (await deleting).status_code == 200
        assert (await other.get(f"/v1/files/{sha256(data)}/content")).content == data
