import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from policies.errors import InputError
from services.gateway.uris import UriCode, UriRefused, UriRoots, checked
from services.media.refusal import Code, MediaRefused

SOON = 10.0


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A root with a clip, beside it a secret, and links of every kind."""
    root = tmp_path / "root"
    (root / "deep").mkdir(parents=True)
    (root / "clip.mp4").write_bytes(b"inside")
    (root / "deep" / "a b.mp4").write_bytes(b"inside, too")
    (tmp_path / "secret.mp4").write_bytes(b"SECRET")
    (tmp_path / "root-of-others").mkdir()
    (tmp_path / "root-of-others" / "clip.mp4").write_bytes(b"SECRET")
    (root / "link.mp4").symlink_to(root / "clip.mp4")
    (root / "out.mp4").symlink_to(tmp_path / "secret.mp4")
    (root / "out").symlink_to(tmp_path)
    (root / "ring").symlink_to(root / "ring")
    (root / "proc").symlink_to("/proc/self")
    os.mkfifo(root / "pipe")
    return root


@pytest.fixture
def roots(folder: Path) -> Iterator[UriRoots]:
    opened = UriRoots({"clips": str(folder), "again": f"file://{folder}"})
    yield opened
    opened.close()


async def read(roots: UriRoots, uri: str, max_bytes: int = 1000) -> bytes:
    return await roots.read(uri, max_bytes=max_bytes, deadline=time.monotonic() + SOON)


async def refusal(roots: UriRoots, uri: str) -> UriCode:
    with pytest.raises(UriRefused) as caught:
        await read(roots, uri)
    assert not any(part in str(caught.value) for part in uri.split("/") if len(part) > 2)
    return caught.value.code


@pytest.mark.parametrize("uri", ["clips/clip.mp4", "again/clip.mp4", "clips/link.mp4"])
async def test_a_file_below_a_root_is_read(roots: UriRoots, uri: str) -> None:
    assert await read(roots, uri) == b"inside"


async def test_folders_and_spaces_are_fine(roots: UriRoots) -> None:
    assert await read(roots, "clips/deep/a b.mp4") == b"inside, too"


@pytest.mark.parametrize(
    "uri",
    [
        "", "clips", "clips/", "/clips/clip.mp4", "clips//clip.mp4", "clips/./clip.mp4", "clips/../secret.mp4",
        "clips/deep/../../secret.mp4", "clips/%2e%2e/secret.mp4", "clips/%252e%252e/secret.mp4",
        "clips/..%2fsecret.mp4",
        "clips/deep\\..\\..\\secret.mp4", "clips/clip.mp4\0", "clips/clip.mp4%00", "clips/clip\n.mp4", "clips/.. /x",
        "others/clip.mp4", "file:///etc/passwd", "/etc/passwd", "https://example.com/clip.mp4", "clips/x::file://y",
        "clips/clip.mp4?x", "clips/clip.mp4#x", "clips/*", "clips/\ud800", "clips/" + "a" * 2000, "..",
        "../clips/clip.mp4",
        "%63lips/clip.mp4", "clips/.../x", "clips/\u202e4pm",
    ],
)  # fmt: skip
async def test_anything_that_is_no_plain_path_is_refused(roots: UriRoots, uri: str) -> None:
    assert await refusal(roots, uri) is UriCode.NOT_ALLOWED


@pytest.mark.parametrize(
    "path",
    [
        "out.mp4", "out/secret.mp4", "out/root-of-others/clip.mp4", "ring", "ring/x", "pipe", "deep", "none.mp4",
        "clip.mp4/x", "proc/environ", "proc/root/etc/passwd", "a" * 300,
    ],
)  # fmt: skip
async def test_what_is_elsewhere_or_no_file_is_as_if_it_were_not_there(roots: UriRoots, path: str) -> None:
    assert await refusal(roots, f"clips/{path}") is UriCode.NOT_FOUND


SEGMENTS = st.sampled_from(
    [".", "..", "...", "", "clips", "again", "root", "deep", "out", "out.mp4", "clip.mp4", "secret.mp4", "link.mp4",
     "proc", "root-of-others", "%2e%2e", "%2E.", "..%00", "~", "\\..", "..\\", "\0", "file:", "etc", "passwd", "cwd",
     " .."]
) | st.text(max_size=4)  # fmt: skip
JOINTS = st.sampled_from(["/", "/", "/", "//", "\\", "%2f", "%5c", "::", "/./", "/../"])


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from(["clips", "clips", "again", "", ".."]), parts=st.lists(st.tuples(JOINTS, SEGMENTS), max_size=7)
)
async def test_no_path_reads_anything_outside_of_its_root(
    roots: UriRoots, name: str, parts: list[tuple[str, str]]
) -> None:
    uri = name + "".join(joint + segment for joint, segment in parts)
    try:
        data = await read(roots, uri)
    except UriRefused:
        return
    assert data.startswith(b"inside")


async def test_a_folder_that_becomes_a_link_meanwhile_leads_nowhere(folder: Path, roots: UriRoots) -> None:
    """Someone swaps `deep` for a link to a folder outside, as fast as they can, while it is asked for."""
    outside, deep = folder.parent / "root-of-others", folder / "deep"
    (deep / "clip.mp4").write_bytes(b"inside")
    is_over = threading.Event()

    def swap() -> None:
        while not is_over.is_set():
            deep.rename(folder / "kept")
            deep.symlink_to(outside)
            deep.unlink()
            (folder / "kept").rename(deep)

    swapping = threading.Thread(target=swap)
    swapping.start()
    try:
        for _ in range(300):
            try:
                assert await read(roots, "clips/deep/clip.mp4") == b"inside"
            except UriRefused:
                continue
    finally:
        is_over.set()
        swapping.join()


async def test_reading_stops_at_the_cap(roots: UriRoots) -> None:
    assert await read(roots, "clips/clip.mp4", max_bytes=6) == b"inside"
    with pytest.raises(MediaRefused) as caught:
        await read(roots, "clips/clip.mp4", max_bytes=5)
    assert caught.value.code is Code.TOO_LARGE


async def test_an_object_store_is_read_the_same_way() -> None:
    memory = fsspec.filesystem("memory")
    memory.pipe_file("/bucket/prefix/day/clip.mp4", b"inside")
    memory.pipe_file("/bucket/secret.mp4", b"SECRET")
    roots = UriRoots({"clips": "memory://bucket/prefix"})
    assert await read(roots, "clips/day/clip.mp4") == b"inside"
    assert await refusal(roots, "clips/none.mp4") is UriCode.NOT_FOUND
    assert await refusal(roots, "clips/../secret.mp4") is UriCode.NOT_ALLOWED
    roots.close()


class Stuck(fsspec.AbstractFileSystem):  # type: ignore[misc]
    """An object store that never answers, or fails with a message full of secrets."""

    protocol = "stuck"
    released = threading.Event()

    def _open(self, path: str, mode: str = "rb", **_: object) -> object:
        if path.endswith("hang.mp4"):
            self.released.wait(SOON)
        raise RuntimeError(f"token=abc at {path}")


@pytest.fixture
def stuck() -> Iterator[UriRoots]:
    fsspec.register_implementation("stuck", Stuck, clobber=True)
    Stuck.released.clear()
    roots = UriRoots({"clips": "stuck://bucket"})
    yield roots
    Stuck.released.set()
    roots.close()


async def test_an_object_store_that_hangs_costs_the_deadline(stuck: UriRoots) -> None:
    with pytest.raises(UriRefused) as caught:
        await stuck.read("clips/hang.mp4", max_bytes=10, deadline=time.monotonic() + 0.05)
    assert caught.value.code is UriCode.UNAVAILABLE and caught.value.code.is_retryable


async def test_an_object_stores_own_words_go_nowhere(stuck: UriRoots) -> None:
    with pytest.raises(UriRefused) as caught:
        await read(stuck, "clips/bad.mp4")
    assert (
        caught.value.code is UriCode.UNAVAILABLE and "abc" not in str(caught.value) and "bad" not in str(caught.value)
    )


@pytest.mark.parametrize("url", ["nosuchscheme://bucket", "/no/such/folder"])
def test_a_root_that_cannot_be_used_is_named_at_the_start(url: str) -> None:
    with pytest.raises(InputError, match=r"uri_roots\.clips"):
        UriRoots({"clips": url})


def test_a_checked_uri_is_a_name_and_a_path() -> None:
    assert checked("clips/day/one.mp4") == ("clips", "day/one.mp4")
