"""The one file of a multipart/form-data body, taken out of it while it arrives.

Only bytes are taken from a form. A file field that holds a string, as an address to be fetched, is refused
(CVE-2025-54381), and the name that the caller's machine gave the file is not looked at.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterable, AsyncIterator

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from services.gateway.problem_kinds import kind
from services.gateway.problems import Problem

FIELD = b"file"
_MOST_HEADERS, _LONGEST_HEADER = 8, 2048

logging.getLogger("python_multipart").setLevel(logging.ERROR)  # it has a line for every oddity that a caller sends

MALFORMED_FORM = kind(
    "malformed_form", 400, "Malformed form", "The body is not the multipart/form-data that its content type announces.",
    "Let an HTTP library write the form, or send the bytes of the video alone, with Content-Type: video/mp4.",
)  # fmt: skip
NOT_ONE_FILE = kind(
    "not_one_file", 422, "Not one file", "The form has to consist of one file in the field `file`, and nothing else.",
    "Send the video's bytes as a file of that name; a string in its place, such as an address, is not taken.",
)  # fmt: skip


async def file_in_form(chunks: AsyncIterable[bytes], content_type: str) -> AsyncIterator[bytes]:
    """The bytes of the file in a form, as they come.

    Raises:
        Problem: the body is no such form, or has something else in it than one file.
    """
    part = _Part()
    parser = _parser(part, content_type)
    async for chunk in chunks:
        try:
            parser.write(chunk)
        except FormParserError as error:
            raise Problem(MALFORMED_FORM) from error
        for piece in part.take():
            yield piece
    if not part.is_whole:
        raise Problem(MALFORMED_FORM)
    if not part.parts:
        raise Problem(NOT_ONE_FILE)


def _parser(part: _Part, content_type: str) -> MultipartParser:
    boundary = parse_options_header(content_type)[1].get(b"boundary", b"")
    if not boundary:
        raise Problem(MALFORMED_FORM)
    try:
        return MultipartParser(
            boundary,
            {
                "on_part_begin": part.begin,
                "on_header_field": part.name_more,
                "on_header_value": part.value_more,
                "on_header_end": part.end_header,
                "on_headers_finished": part.check,
                "on_part_data": part.data,
                "on_end": part.end,
            },
            max_header_count=_MOST_HEADERS, max_header_size=_LONGEST_HEADER,
        )  # fmt: skip
    except (FormParserError, ValueError) as error:
        raise Problem(MALFORMED_FORM) from error


class _Part:
    """What the parser found so far."""

    def __init__(self) -> None:
        self.parts, self.is_whole = 0, False
        self._name, self._value = b"", b""
        self._disposition = b""
        self._pieces: list[bytes] = []

    def begin(self) -> None:
        self.parts += 1
        self._disposition = b""

    def name_more(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def value_more(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def end_header(self) -> None:
        if self._name.lower() == b"content-disposition":
            self._disposition = self._value
        self._name, self._value = b"", b""

    def check(self) -> None:
        kind_of, options = parse_options_header(self._disposition)
        is_file = kind_of == b"form-data" and b"filename" in options and options.get(b"name") == FIELD
        if self.parts > 1 or not is_file:
            raise Problem(NOT_ONE_FILE)

    def data(self, data: bytes, start: int, end: int) -> None:
        self._pieces.append(data[start:end])

    def end(self) -> None:
        self.is_whole = True

    def take(self) -> list[bytes]:
        pieces, self._pieces = self._pieces, []
        return pieces
