"""A comparison, as a value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from services.client.results import Model, ScoreOrError, scores_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A video's place: `index` is its number in the call. Tied neighbours share a rank; the last has no next one."""

    rank: int
    index: int
    reward: float
    margin_to_best: float
    tie: bool
    margin_to_next: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Videos of one prompt, best first.

    Args:
        ranking: the videos that have scores, the best one first.
        scores: of each video, in the order that they were given; an error for one that could not be scored.
        tie: whether the best two are tied, that is, differ by no more than `tie_margin`.
    """

    ranking: tuple[Place, ...]
    scores: tuple[ScoreOrError, ...]
    tie: bool
    tie_margin: float
    model: Model

    @property
    def best(self) -> int:
        """The number of the best video."""
        return self.ranking[0].index

    @classmethod
    def of(cls, value: Mapping[str, Any]) -> Self:
        return cls(
            ranking=tuple(Place(**place) for place in value["ranking"]),
            scores=tuple(scores_of(value)),
            tie=value["tie"],
            tie_margin=value["tie_margin"],
            model=Model.of(value["model"]),
        )
