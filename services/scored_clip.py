"""What `onlinevpo score` says of a clip, wherever it was scored."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from policies.errors import InputError, OnlineVPOError
from services.outcome import EXIT_OK, Outcome, error_json, exit_code_of_error


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipScore:
    """What one clip got, and from which model; `error` says why there is nothing."""

    clip: str
    prompt: str
    raw: Mapping[str, float] = field(default_factory=dict)
    normalised: Mapping[str, float] = field(default_factory=dict)
    reward: float = math.nan
    model: Mapping[str, Any] = field(default_factory=dict)
    stages: Mapping[str, Any] | None = None
    error: OnlineVPOError | None = None


def prompts_of(clips: Sequence[str], prompts: Sequence[str]) -> list[str]:
    """One prompt for each clip: the one there is, or one each."""
    if len(prompts) not in (1, len(clips)):
        raise InputError(f"{len(clips)} clips but {len(prompts)} prompts; give --prompt once, or once for each clip")
    return list(prompts) * (len(clips) if len(prompts) == 1 else 1)


def outcome_of(scores: Sequence[ClipScore]) -> Outcome:
    """A JSON object a line for each clip, and a table of those that have scores; the others were told on stderr."""
    codes = [exit_code_of_error(one.error) for one in scores if one.error is not None]
    return Outcome(json=[_line(one) for one in scores], text=_table(scores), exit_code=max(codes, default=EXIT_OK))


def _line(one: ClipScore) -> dict[str, Any]:
    if one.error is not None:
        return {"clip": one.clip, "prompt": one.prompt, **error_json(one.error)}
    line = {
        "clip": one.clip,
        "prompt": one.prompt,
        "raw": dict(one.raw),
        "normalised": dict(one.normalised),
        "reward": one.reward,
        "model": dict(one.model),
    }
    return line if one.stages is None else line | {"stages": dict(one.stages)}


def _table(scores: Sequence[ClipScore]) -> str:
    """Normalised scores and the reward, a clip a line."""
    done = [one for one in scores if one.error is None]
    if not done:
        return ""
    width = max(len("clip"), *(len(one.clip) for one in done))
    names, model = [*done[0].normalised, "reward"], done[0].model
    head = f"{'clip':<{width}}" + "".join(f"  {name:>8}" for name in names)
    rows = [
        f"{one.clip:<{width}}"
        + "".join(
            f"  {value:>{max(len(name), 8)}.4f}"
            for name, value in zip(names, [*one.normalised.values(), one.reward], strict=True)
        )
        for one in done
    ]
    return "\n".join([f"{model['name']} {model['revision'][:12]}, {model['dtype']}", head, *rows])
