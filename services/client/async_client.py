"""`AsyncClient`: the service's calls with asyncio."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from types import TracebackType
from typing import Self

import httpx2

from services.client import calls
from services.client.calls import Items, Uploads
from services.client.comparison import Comparison
from services.client.events import Listening, listen_async
from services.client.results import Event, File, Job, Model, Score, ScoreOrError
from services.client.settings import TIMEOUT_S, address, authorization, options
from services.client.steps import Plan, T, work
from services.client.transport import run_async
from services.client.videos import Video, content_of


class AsyncClient:
    """`Client` with asyncio: what it says of its calls holds here.

        async with AsyncClient("http://127.0.0.1:8000") as client:
            score = await client.score(video=Path("clip.mp4"), prompt="a red circle moving left slowly")

    Args: those of `Client`.
    """

    def __init__(
        self,
        base_url: str | None = None,
        *,
        api_key: str | None = None,
        timeout_s: float = TIMEOUT_S,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        self._http = httpx2.AsyncClient(
            base_url=address(base_url), headers=authorization(api_key), transport=transport, follow_redirects=False
        )
        self._timeout_s, self._uploads = timeout_s, Uploads()
        self.files, self.jobs = AsyncFiles(self), AsyncJobs(self)

    async def score(
        self,
        *,
        video: Video,
        prompt: str,
        model: str | None = None,
        dimensions: Sequence[str] | None = None,
        timeout_s: float | None = None,
    ) -> Score:
        """Scores one video: a Path, the bytes of one, the id of an uploaded file, or root/path.

        Raises:
            ApiError: the service refused it, and why. Unreachable, TimedOut: there was no answer in time.
        """
        item = calls.Item(video=video, prompt=prompt)
        given = options(model=model, dimensions=dimensions)
        return await self._run(calls.score(item, given, self._uploads, deadline=self._deadline(timeout_s)))

    async def score_many(
        self,
        items: Items,
        *,
        model: str | None = None,
        dimensions: Sequence[str] | None = None,
        timeout_s: float | None = None,
    ) -> list[ScoreOrError]:
        """Scores videos with their prompts, in order. Each video is uploaded once, however often it occurs.

        A video that cannot be scored has its error in its place; what goes wrong with the whole call is raised.
        """
        given = options(model=model, dimensions=dimensions)
        return await self._run(calls.score_many(items, given, self._uploads, deadline=self._deadline(timeout_s)))

    async def compare(
        self,
        prompt: str,
        videos: Sequence[Video],
        *,
        model: str | None = None,
        tie_margin: float | None = None,
        timeout_s: float | None = None,
    ) -> Comparison:
        """Ranks videos that were made from one prompt."""
        given = options(model=model, tie_margin=tie_margin)
        return await self._run(calls.compare(prompt, videos, given, self._uploads, deadline=self._deadline(timeout_s)))

    async def models(self) -> list[Model]:
        """The models that the service has."""
        return await self._run(calls.models(deadline=self._deadline(None)))

    async def close(self) -> None:
        """Closes its connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    def _deadline(self, timeout_s: float | None) -> float:
        return time.monotonic() + (self._timeout_s if timeout_s is None else timeout_s)

    async def _run(self, plan: Plan[T]) -> T:
        return await run_async(plan, self._http)


class AsyncFiles:
    """Uploaded videos."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client

    async def upload(self, video: Video, *, timeout_s: float | None = None) -> File:
        """Brings a video to the service, as a stream; the same bytes again cost nothing and have the same id."""
        content = await run_async(work(lambda: content_of(video)), self._client._http)
        if content is None:
            raise ValueError("pass a Path or bytes to upload")
        deadline = self._client._deadline(timeout_s)
        return await self._client._run(calls.upload(content, self._client._uploads, deadline=deadline))

    async def list(self) -> list[File]:
        """The files of this API key."""
        return await self._client._run(calls.files(deadline=self._client._deadline(None)))

    async def delete(self, file_id: str) -> None:
        """Takes a file away from this API key."""
        deadline = self._client._deadline(None)
        await self._client._run(calls.delete_file(file_id, self._client._uploads, deadline=deadline))


class AsyncJobs:
    """Requests that are worked on in the background."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client

    async def submit(
        self,
        items: Items,
        *,
        model: str | None = None,
        dimensions: Sequence[str] | None = None,
        timeout_s: float | None = None,
    ) -> Job:
        """Begins to score videos with their prompts in the background."""
        given = options(model=model, dimensions=dimensions)
        deadline = self._client._deadline(timeout_s)
        return await self._client._run(calls.submit(items, given, self._client._uploads, deadline=deadline))

    async def get(self, job_id: str) -> Job:
        """How a job stands."""
        return await self._client._run(calls.job(job_id, deadline=self._client._deadline(None)))

    async def list(self) -> list[Job]:
        """The jobs of this API key, newest first, without their scores."""
        return await self._client._run(calls.jobs(deadline=self._client._deadline(None)))

    async def wait(self, job_id: str, *, timeout_s: float = 3600.0) -> Job:
        """The job once it has ended. Raises TimedOut; the job then goes on."""
        return await self._client._run(calls.wait(job_id, deadline=time.monotonic() + timeout_s))

    def events(self, job_id: str, *, after: int = 0, timeout_s: float = 3600.0) -> AsyncIterator[Event]:
        """What happens to a job, to its end. A lost connection is taken up again where it was."""
        listening = Listening(job_id, after=after, deadline=time.monotonic() + timeout_s)

        async def has_ended() -> bool:
            return (await self.get(job_id)).has_ended

        return listen_async(self._client._http, listening, has_ended)

    async def cancel(self, job_id: str) -> Job:
        """Ends a job that has not ended; the answer says how it stands."""
        return await self._client._run(calls.cancel(job_id, deadline=self._client._deadline(None)))
