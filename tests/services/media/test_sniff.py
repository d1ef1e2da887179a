from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.media.boxes import is_cut_off, names_other_files
from services.media.refusal import Code, MediaRefused
from services.media.sniff import container_of
from tests.services.media.clips import ALLOWED, clip, with_external_reference


@pytest.mark.parametrize(("container", "codec"), ALLOWED)
def test_allowed_containers_are_told_from_their_bytes(container: str, codec: str) -> None:
    assert container_of(clip(container, codec)) == container


@pytest.mark.parametrize(
    ("head", "code"),
    [
        (b"", Code.EMPTY),
        (b"\0\0\0\x14ftypqt  \0\0\0\0isom", Code.CONTAINER),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", Code.CONTAINER),
        (b"\0\0\0\x1cftypavif\0\0\0\0avifmif1miaf", Code.CONTAINER),
        (b"\0\0\0\x00ftypisom\0\0\0\0isom", Code.CONTAINER),
        (b"\xff\xff\xff\xf0ftypisom\0\0\0\0isom", Code.CONTAINER),
        (b"\x1a\x45\xdf\xa3\x8b\x42\x82\x88matroska", Code.CONTAINER),
        (b"\x1a\x45\xdf\xa3\x01\xff\xff\xff\xff\xff\xff\xff", Code.CONTAINER),
        (b"\x1a\x45\xdf\xa3\x87\x42\x82\x84webm", Code.TRUNCATED),
        (b"GIF89a", Code.CONTAINER),
        (b"RIFF\0\0\0\0AVI ", Code.CONTAINER),
    ],
)
def test_anything_else_is_refused(head: bytes, code: Code) -> None:
    with pytest.raises(MediaRefused) as refused:
        container_of(head)
    assert refused.value.code == code


@given(
    st.binary(max_size=64),
    st.sampled_from([b"", b"\x1a\x45\xdf\xa3", b"\0\0\0\x18ftyp", b"\x1a\x45\xdf\xa3\x87\x42\x82"]),
)
def test_no_bytes_break_the_reading(tail: bytes, head: bytes) -> None:
    with suppress(MediaRefused):
        assert container_of(head + tail) in ("mp4", "webm")
    assert isinstance(is_cut_off(head + tail), bool)
    assert isinstance(names_other_files(head + tail), bool)


def test_a_reference_out_of_the_file_is_found_and_one_into_it_is_none() -> None:
    assert not names_other_files(clip())
    assert names_other_files(with_external_reference(clip()))


@pytest.mark.parametrize("cut", [1, 100, 1000])
def test_a_missing_end_is_found(cut: int) -> None:
    assert not is_cut_off(clip())
    assert is_cut_off(clip()[:-cut])
