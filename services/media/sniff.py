"""What container a video's first bytes say it is. Anything but MP4 and WebM is refused before any library sees it."""

from __future__ import annotations

from typing import Literal

from services.media.refusal import Code, MediaRefused

Container = Literal["mp4", "webm"]

SOUGHT = 4096
"""Bytes in which the container must have said what it is."""

_BRANDS = frozenset(
    {b"isom", b"mp41", b"mp42", b"avc1", b"av01", b"vp09", b"dash", b"M4V ", b"M4VH", b"M4VP", b"MSNV"}
    | {b"iso%d" % n for n in range(2, 10)}
    | {b"iso%c" % letter for letter in b"abc"}
)
_EBML, _DOCTYPE, _SEGMENT = 0x1A45DFA3, 0x4282, 0x18538067


def container_of(data: bytes) -> Container:
    """The container, decided from the bytes alone.

    Raises:
        MediaRefused: no bytes, another container, or a WebM that ends before it says it does.
    """
    return container_from(data[:SOUGHT], len(data))


def container_from(head: bytes, total: int) -> Container:
    """The same for a file of `total` bytes of which only the first SOUGHT are at hand."""
    if not head:
        raise MediaRefused(Code.EMPTY)
    if head[4:8] == b"ftyp" and _has_mp4_brand(head):
        return "mp4"
    try:
        end_of_header = _webm_header_end(head)
        _check_segment(head, end_of_header, total)
    except IndexError as error:
        raise MediaRefused(Code.CONTAINER) from error
    return "webm"


def _has_mp4_brand(head: bytes) -> bool:
    """Whether the file type box names a brand of MP4; QuickTime and still images are ISO media files as well."""
    size = int.from_bytes(head[:4], "big")
    if not 16 <= size <= len(head) or size % 4:
        return False
    brands = {head[8:12], *(head[at : at + 4] for at in range(16, size, 4))}
    return head[8:12] != b"qt  " and bool(brands & _BRANDS)


def _webm_header_end(head: bytes) -> int:
    """Where the EBML header ends, once its document type is found to be webm."""
    at, identifier, size = _element(head, 0)
    end = at + size
    if identifier != _EBML or end > len(head):
        raise MediaRefused(Code.CONTAINER)
    while at < end:
        at, identifier, size = _element(head, at)
        if identifier == _DOCTYPE:
            if head[at : at + size].rstrip(b"\0") != b"webm":
                raise MediaRefused(Code.CONTAINER)
            return end
        at += size
    raise MediaRefused(Code.CONTAINER)


def _check_segment(head: bytes, at: int, total: int) -> None:
    """Refuses a segment that is longer than the file. One written live does not know its length."""
    if at >= total:
        raise MediaRefused(Code.TRUNCATED)
    start, identifier, size = _element(head, at)
    if identifier != _SEGMENT:
        return
    is_unknown = size == (1 << 7 * (start - at - 4)) - 1
    if not is_unknown and start + size > total:
        raise MediaRefused(Code.TRUNCATED)


def _element(head: bytes, at: int) -> tuple[int, int, int]:
    """Of an EBML element: where its content starts, its identifier, its size."""
    length = _vint_length(head[at])
    identifier = int.from_bytes(head[at : at + length], "big")
    at += length
    length = _vint_length(head[at])
    size = int.from_bytes(head[at : at + length], "big") & ((1 << 7 * length) - 1)
    return at + length, identifier, size


def _vint_length(first: int) -> int:
    """How many bytes a variable-length integer has, from its first."""
    if not first:
        raise MediaRefused(Code.CONTAINER)
    return 9 - first.bit_length()
