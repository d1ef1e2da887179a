"""A client of the scoring service, for programs: neither torch nor Ray, only HTTP."""

from services.client.async_client import AsyncClient
from services.client.calls import Item
from services.client.client import Client
from services.client.comparison import Comparison, Place
from services.client.errors import (
    ApiError,
    BadRequest,
    Conflict,
    DeadlinePassed,
    Forbidden,
    Invalid,
    NotFound,
    RateLimited,
    ScoringError,
    ServerFailed,
    TimedOut,
    TooLarge,
    Unauthenticated,
    Unavailable,
    Unreachable,
    VideoRefused,
)
from services.client.results import Event, File, Job, Model, Score, Usage

__all__ = [
    "ApiError",
    "AsyncClient",
    "BadRequest",
    "Client",
    "Comparison",
    "Conflict",
    "DeadlinePassed",
    "Event",
    "File",
    "Forbidden",
    "Invalid",
    "Item",
    "Job",
    "Model",
    "NotFound",
    "Place",
    "RateLimited",
    "Score",
    "ScoringError",
    "ServerFailed",
    "TimedOut",
    "TooLarge",
    "Unauthenticated",
    "Unavailable",
    "Unreachable",
    "Usage",
    "VideoRefused",
]
