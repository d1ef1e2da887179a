import asyncio
import hashlib
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.errors import StallError
from services.media.files import ContentFolder
from services.media.refusal import Code, MediaRefused

MIB = 2**20


async def stream(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


async def test_a_file_lies_under_the_hash_of_its_bytes(tmp_path: Path) -> None:
    folder = ContentFolder(tmp_path / "files")
    stored = await folder.receive(stream(b"ab", b"", b"c"), max_bytes=3, chunk_s=5)
    assert stored.sha256 == hashlib.sha256(b"abc").hexdigest()
    assert (stored.size, stored.is_new, stored.path.read_bytes()) == (3, True, b"abc")
    assert folder.find(stored.sha256) == stored.path
    assert files(tmp_path) == [stored.path]
    assert stored.path.stat().st_mode & 0o077 == 0


async def test_the_same_bytes_are_kept_once(tmp_path: Path) -> None:
    folder = ContentFolder(tmp_path)
    first = await folder.receive(stream(b"abc"), max_bytes=9, chunk_s=5)
    written = first.path.stat().st_mtime_ns
    again = await folder.receive(stream(b"a", b"bc"), max_bytes=9, chunk_s=5)
    assert (again.path, again.is_new) == (first.path, False)
    assert first.path.stat().st_mtime_ns == written
    assert files(tmp_path) == [first.path]


async def test_an_endless_upload_is_cut_within_a_mebibyte_of_the_limit(tmp_path: Path) -> None:
    asked = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal asked
        while True:
            asked += 65536
            yield bytes(65536)

    with pytest.raises(MediaRefused) as refused:
        await ContentFolder(tmp_path).receive(endless(), max_bytes=4 * MIB, chunk_s=5)
    assert refused.value.code == Code.TOO_LARGE
    assert asked <= 5 * MIB
    assert files(tmp_path) == []


async def test_nothing_of_an_upload_that_breaks_stays(tmp_path: Path) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"abc"
        assert len(files(tmp_path)) == 1
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        await ContentFolder(tmp_path).receive(broken(), max_bytes=9, chunk_s=5)
    with pytest.raises(MediaRefused):
        await ContentFolder(tmp_path).receive(stream(), max_bytes=9, chunk_s=5)
    assert files(tmp_path) == []


async def test_an_upload_that_stalls_ends(tmp_path: Path) -> None:
    async def stalls() -> AsyncIterator[bytes]:
        yield b"abc"
        await asyncio.sleep(60)

    with pytest.raises(StallError, match=r"media upload: no bytes came for 0.02 s"):
        await ContentFolder(tmp_path).receive(stalls(), max_bytes=9, chunk_s=0.02)
    assert files(tmp_path) == []


async def test_many_uploads_at_once_of_the_same_bytes_give_one_whole_file(tmp_path: Path) -> None:
    folder = ContentFolder(tmp_path)
    uploads = [folder.receive(stream(b"abc" * 1000, b"d"), max_bytes=MIB, chunk_s=5) for _ in range(8)]
    stored = await asyncio.gather(*uploads)
    assert {item.path.read_bytes() for item in stored} == {b"abc" * 1000 + b"d"}
    assert len(files(tmp_path)) == 1


def test_leftovers_of_a_killed_server_are_swept_and_what_arrives_is_not(tmp_path: Path) -> None:
    folder = ContentFolder(tmp_path)
    old, new = tmp_path / ".incoming" / "old", tmp_path / ".incoming" / "new"
    for path in (old, new):
        path.write_bytes(b"x")
    os.utime(old, (time.time() - 7200,) * 2)
    assert folder.sweep(older_than_s=3600) == 1
    assert files(tmp_path) == [new]


@given(
    st.one_of(st.text(), st.sampled_from(["../secret", "..%2fsecret", "a" * 64 + "\n", "A" * 64, "\0", "/etc/passwd"]))
)
def test_only_hashes_are_looked_up(tmp_path_factory: pytest.TempPathFactory, name: str) -> None:
    root = tmp_path_factory.mktemp("root")
    (root / "secret").write_text("")
    assert ContentFolder(root / "files").find(name) is None


async def test_a_file_that_is_set_aside_is_not_found_until_it_is_put_back(tmp_path: Path) -> None:
    folder = ContentFolder(tmp_path)
    stored = await folder.receive(stream(b"abc"), max_bytes=10, chunk_s=5)
    assert [(name, size) for name, size, _ in folder.all()] == [(stored.sha256, 3)]
    assert folder.set_aside(stored.sha256) and not folder.set_aside(stored.sha256)
    assert folder.find(stored.sha256) is None and folder.aside() == [stored.sha256] and not list(folder.all())
    folder.put_back(stored.sha256)
    assert folder.find(stored.sha256) == stored.path and not folder.aside()
    folder.set_aside(stored.sha256)
    folder.remove(stored.sha256)
    folder.put_back(stored.sha256)
    assert folder.find(stored.sha256) is None and not folder.aside()
