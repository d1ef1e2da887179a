"""A file on its way in: taken from the body, looked at while it comes, refused as early as possible."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, contextmanager

from starlette.requests import ClientDisconnect, Request

from policies.errors import StallError
from services.gateway.files_form import file_in_form
from services.gateway.files_shelf import Shelf
from services.gateway.problem_kinds import BAD_REQUEST, REQUEST_TIMEOUT, UNSUPPORTED_MEDIA_TYPE, VIDEO
from services.gateway.problems import Problem
from services.media.files import StoredFile
from services.media.refusal import MediaRefused
from services.media.sniff import SOUGHT, Container, container_from

BYTES = ("video/mp4", "video/webm", "application/octet-stream")
FORM = "multipart/form-data"
_CHUNK_S = 60.0  # the limits on bodies are stricter
_NOT_KNOWN_YET = 1 << 62
_CLOSE = {"Connection": "close"}  # what is left of the body is not read


class Looked:
    """Bytes that pass through, and the container that they turn out to be."""

    def __init__(self, chunks: AsyncIterable[bytes]) -> None:
        self._chunks = chunks
        self._container: Container | None = None

    @property
    def container(self) -> Container:
        """Known once all has passed."""
        assert self._container is not None
        return self._container

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Raises MediaRefused, at the latest before the end, so that nothing is kept that is no video."""
        head, total = b"", 0
        async for chunk in self._chunks:
            total += len(chunk)
            if len(head) < SOUGHT:
                head += chunk[: SOUGHT - len(head)]
                if len(head) == SOUGHT:
                    container_from(head, _NOT_KNOWN_YET)
            yield chunk
        self._container = container_from(head, total)


@asynccontextmanager
async def received(request: Request, shelf: Shelf, *, max_bytes: int) -> AsyncIterator[tuple[StoredFile, Container]]:
    """The file in a request's body, on the disk; it stays there if it is entered.

    Raises:
        Problem: it is not one that is taken; the connection is closed then, because the body may go on.
    """
    async with aclosing(_bytes_of(request)) as chunks, AsyncExitStack() as stack:
        looked = Looked(chunks)
        with _refusals():
            arriving = shelf.arriving(looked, max_bytes=max_bytes, chunk_s=_CHUNK_S)
            stored = await stack.enter_async_context(arriving)
        yield stored, looked.container


@contextmanager
def _refusals() -> Iterator[None]:
    try:
        yield
    except MediaRefused as refused:
        raise Problem(VIDEO[refused.code], headers=_CLOSE) from refused
    except StallError as error:
        raise Problem(REQUEST_TIMEOUT, headers=_CLOSE) from error
    except ClientDisconnect as error:
        raise Problem(BAD_REQUEST, headers=_CLOSE) from error
    except Problem as problem:
        problem.headers.update(_CLOSE)
        raise


async def _bytes_of(request: Request) -> AsyncGenerator[bytes]:
    content_type = request.headers.get("content-type", "")
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type == FORM:
        chunks = file_in_form(request.stream(), content_type)
    elif media_type in BYTES:
        chunks = request.stream()
    else:
        raise Problem(
            UNSUPPORTED_MEDIA_TYPE,
            f"A file is sent as {', '.join(BYTES)}, or as the field `file` of {FORM}.",
        )
    async for chunk in chunks:
        if chunk:
            yield chunk
