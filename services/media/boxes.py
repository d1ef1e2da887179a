"""What is read of MP4's structure here: is its end missing, do its frames lie in another file."""

from __future__ import annotations

from collections.abc import Iterator

_WAY = (b"moov", b"trak", b"mdia", b"minf", b"dinf", b"dref")
_MEDIA = (b"moov", b"mdat", b"moof")
_IN_THIS_FILE = 1
_LARGE, _TO_THE_END = 1, 0  # sizes that mean something else


def names_other_files(data: bytes) -> bool:
    """Whether any data reference points out of the file."""
    return any(_is_outside(data, start, end) for start, end in _found(data, 0, len(data), _WAY))


def is_cut_off(data: bytes) -> bool:
    """Whether the index or the frames go on beyond the end of the file."""
    return any(kind in _MEDIA and end > len(data) for kind, _, end in _boxes(data, 0, len(data)))


def _is_outside(data: bytes, start: int, end: int) -> bool:
    """Of a data reference box's content: version and flags, a count, then one box per reference."""
    flags = (int.from_bytes(data[content : content + 4], "big") for _, content, _ in _boxes(data, start + 8, end))
    return any(not value & _IN_THIS_FILE for value in flags)


def _found(data: bytes, start: int, end: int, way: tuple[bytes, ...]) -> Iterator[tuple[int, int]]:
    for kind, content, stop in _boxes(data, start, end):
        if kind == way[0]:
            if len(way) == 1:
                yield content, min(stop, end)
            else:
                yield from _found(data, content, min(stop, end), way[1:])


def _boxes(data: bytes, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Kind, start and claimed end of each box's content."""
    while start + 8 <= end:
        size, kind, header = int.from_bytes(data[start : start + 4], "big"), data[start + 4 : start + 8], 8
        if size == _LARGE:
            size, header = int.from_bytes(data[start + 8 : start + 16], "big"), 16
        if size == _TO_THE_END:
            size = end - start
        if size < header:
            return
        yield kind, start + header, start + size
        start += size
