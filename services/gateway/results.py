"""What is answered of each item, and of all of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from cluster.serving.values import Failure, FailureCode, ModelFacts, Scores
from services.gateway.problem_kinds import (
    DEADLINE_PASSED,
    INPUT_REFUSED,
    KINDS,
    MODEL_FAILED,
    MODEL_UNAVAILABLE,
    NO_ITEM_SCORED,
    NON_FINITE_SCORE,
)
from services.gateway.problems import JsonObject, Problem
from services.media.cache import Media
from services.scoring.model import Outcome

_KINDS = {
    FailureCode.INPUT_REFUSED: INPUT_REFUSED,
    FailureCode.NON_FINITE: NON_FINITE_SCORE,
    FailureCode.MODEL_FAILED: MODEL_FAILED,
    FailureCode.MODEL_UNAVAILABLE: MODEL_UNAVAILABLE,
    FailureCode.DEADLINE_PASSED: DEADLINE_PASSED,
}
_RETRY_S = 1.0


def scored(
    index: int, label: str, outcome: Outcome, dimensions: Sequence[str], media: Media, decode_ms: float
) -> JsonObject:
    """The entry of an item that has scores. Raises Problem for one that has none."""
    result = outcome.result
    if isinstance(result, Failure):
        retry_s = _RETRY_S if result.code is FailureCode.MODEL_UNAVAILABLE else None
        raise Problem(_KINDS[result.code], result.detail, retry_after_s=retry_s)
    if not _is_finite(result):
        raise Problem(NON_FINITE_SCORE)
    return {
        "index": index,
        "id": label or None,
        "object": "score",
        "scores": {name: {"raw": result.raw[name], "normalised": result.normalised[name]} for name in dimensions},
        "reward": result.reward,
        "model": {"name": outcome.facts.name, "revision": outcome.facts.revision, "files": outcome.facts.files},
        "usage": {
            "frames": len(media.frames_FHWC),
            "decode_ms": round(decode_ms, 3),
            "queue_ms": round(outcome.queue_ms, 3),
            "inference_ms": round(outcome.inference_ms, 3),
        },
    }


def failed(index: int, label: str, problem: Problem, request_id: str, pointer: str) -> JsonObject:
    """The entry of an item that has none."""
    body = problem.body(request_id)
    body.setdefault("errors", [{"pointer": pointer, "detail": problem.detail}])
    return {"index": index, "id": label or None, "object": "score", "error": body}


def model_of(facts: ModelFacts) -> JsonObject:
    """Which model it was."""
    return {
        "name": facts.name, "model": facts.model, "revision": facts.revision, "files": dict(facts.files),
        "dtype": facts.dtype,
    }  # fmt: skip


def usage_of(entries: Sequence[JsonObject]) -> JsonObject:
    """What all of it took."""
    usages = [entry["usage"] for entry in entries if "usage" in entry]
    return {
        "items": len(entries),
        "scored": len(usages),
        "frames": sum(usage["frames"] for usage in usages),
        "decode_ms": round(sum(usage["decode_ms"] for usage in usages), 3),
    }


def problem_of_all(entries: Sequence[JsonObject], field: str = "data") -> Problem | None:
    """If no item has scores: what to answer instead, with all entries in it."""
    if not all("error" in entry for entry in entries):
        return None
    errors = [entry["error"] for entry in entries]
    retries = [error["retry_after_s"] for error in errors if "retry_after_s" in error]
    is_one_kind = len({error["code"] for error in errors}) == 1
    return Problem(
        KINDS[errors[0]["code"]] if is_one_kind else NO_ITEM_SCORED,
        errors[0]["detail"] if len({error["detail"] for error in errors}) == 1 else None,
        errors=[place for error in errors for place in error.get("errors", ())],
        retry_after_s=max(retries) if is_one_kind and retries else None,
        more={field: list(entries)},
    )


def _is_finite(scores: Scores) -> bool:
    values: Sequence[Mapping[str, float]] = (scores.raw, scores.normalised)
    return math.isfinite(scores.reward) and all(math.isfinite(value) for part in values for value in part.values())
