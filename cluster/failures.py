"""What the code of a part raised, on its way from a Ray process to whoever runs the run."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from typing import Any

from ray.exceptions import NodeDiedError, RayActorError, RayTaskError, WorkerCrashedError

from cluster.errors import PartError
from policies import errors
from policies.errors import OnlineVPOError

# A process is gone or cannot be reached; whatever it was asked can be asked again, there or elsewhere.
LOST = (RayActorError, NodeDiedError, WorkerCrashedError)


def raised_by(part: str, error: RayTaskError) -> OnlineVPOError:
    """The error of ours that a Ray call raised, or one that quotes somebody else's."""
    cause = error.cause
    if isinstance(cause, OnlineVPOError):
        return cause
    quoted = PartError(f"{part} raised {type(cause).__name__}: {cause}")
    quoted.add_note(str(error))
    return quoted


def describe(error: BaseException) -> dict[str, str]:
    """An exception as JSON."""
    trace = "".join(traceback.format_exception(error))
    return {"type": type(error).__name__, "message": str(error), "trace": trace}


def rebuild(part: str, failure: Mapping[str, Any]) -> OnlineVPOError:
    """The exception that `describe` was given, if it is of our own tree; otherwise one that quotes it."""
    kind = vars(errors).get(failure["type"])
    if isinstance(kind, type) and issubclass(kind, OnlineVPOError):
        error: OnlineVPOError = kind(failure["message"])
    else:
        error = PartError(f"{part} raised {failure['type']}: {failure['message']}")
    if failure["trace"]:
        error.add_note(failure["trace"])
    return error
