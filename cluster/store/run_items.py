"""What a run tells the store, in the order in which it happened."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal, NamedTuple, TypeAlias

from pydantic import Field


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """The numbers of one update, by name. Numbers that are not finite are left out when they are stored."""

    update: int
    points: Mapping[str, float]
    kind: Literal["line"] = "line"


@dataclass(frozen=True, slots=True, kw_only=True)
class Happened:
    """An event: `what` is a word such as swap, skipped, resumed, alarm, note; `update` is where it belongs, if it does.

    `code` tells alarms apart. `at` is None where nobody wrote down when it was.
    """

    what: str
    text: str
    update: int | None = None
    code: str | None = None
    at: float | None = None
    kind: Literal["event"] = "event"


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One member of a pair. `scores` are raw, by dimension."""

    seed: int
    reward: float
    scores: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """What an update learned from. `margin` is reward of chosen minus reward of rejected.

    `conflicts` are the dimensions that score the rejected one higher. `files` are paths in the run directory by name
    (chosen_video, rejected_video, latents), of what was there.
    """

    group_id: str
    update: int
    prompt_id: str
    prompt: str
    policy_version: int
    chosen: Side
    rejected: Side
    margin: float
    conflicts: tuple[str, ...]
    files: Mapping[str, str] = field(default_factory=dict)
    kind: Literal["pair"] = "pair"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """A video for people to look at, drawn from a policy version with a fixed prompt and seed. `file` is its path in
    the run directory."""

    name: str
    file: str
    prompt: str
    seed: int
    policy_version: int
    reward: float | None
    scores: Mapping[str, float]
    kind: Literal["sample"] = "sample"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One of cluster.observer.STAGES begins."""

    name: str
    kind: Literal["stage"] = "stage"


@dataclass(frozen=True, slots=True, kw_only=True)
class Dropped:
    """Points that the run gave up on."""

    points: int
    kind: Literal["dropped"] = "dropped"


Item: TypeAlias = Annotated[Line | Happened | Pair | Sample | Stage | Dropped, Field(discriminator="kind")]


class Told(NamedTuple):
    """An item and its place in what a writer says. Telling it again changes nothing."""

    position: int
    item: Item
