"""Jobs in the API's description."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import Path
from pydantic import BaseModel, Field

_ID = "0006421f3c5e8a2b9d4c1f7a60e35b88"

JobId = Annotated[str, Path(pattern="^[0-9a-f]{32}$", description="Id of a job.", examples=[_ID])]


class JobProgress(BaseModel):
    """How far a job's latest attempt has come."""

    done: int = Field(description="Items that are finished, whatever came of them.", examples=[12])
    failed: int = Field(description="Those of them that have a problem instead of scores.", examples=[1])
    total: int = Field(description="Items of the job.", examples=[256])


class JobUrls(BaseModel):
    """Where to go on."""

    job: str = Field(examples=[f"/v1/jobs/{_ID}"])
    events: str = Field(examples=[f"/v1/jobs/{_ID}/events"])
    result: str = Field(examples=[f"/v1/jobs/{_ID}/result"])
    cancel: str = Field(examples=[f"/v1/jobs/{_ID}/cancel"])


class JobEntry(BaseModel):
    """A job in a list."""

    id: str = Field(examples=[_ID])
    object: Literal["job"]
    state: Literal["queued", "running", "succeeded", "failed", "canceled"] = Field(
        description="Moves forward only. `succeeded`: worked through; items may carry problems."
    )
    attempt: int = Field(description="How often a server has begun it.", examples=[1])
    created_at: float = Field(description="Seconds since 1970.", examples=[1764892800.25])
    started_at: float | None = Field(description="Of the latest attempt.")
    ended_at: float | None
    urls: JobUrls


class JobView(JobEntry):
    """A job."""

    queue_position: int | None = Field(description="How many jobs came before it and wait; null once it has begun.")
    progress: JobProgress | None = Field(description="null before anything is known.")
    result: dict[str, Any] | None = Field(description="What the request would have been answered; null until then.")
    error: dict[str, Any] | None = Field(description="The problem of a job that failed.")


class JobList(BaseModel):
    """A page of jobs, newest first."""

    object: Literal["list"]
    data: list[JobEntry]
    has_more: bool
    next_cursor: str | None = Field(description="`cursor` of the next page.")
