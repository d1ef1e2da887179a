"""A comparison, as a value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from services.client.errors import ApiError
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
    def of(cls, value: Mapping[str, Any], *, sent: Sequence[int], refused: Mapping[int, ApiError]) -> Self:
        """`sent`: numbers of the videos that the service was asked about; `refused`: those that it did not take."""
        scores: dict[int, ScoreOrError] = {**refused, **dict(zip(sent, scores_of(value), strict=True))}
        return cls(
            ranking=tuple(Place(**{**place, "index": sent[place["index"]]}) for place in value["ranking"]),
            scores=tuple(scores[index] for index in sorted(scores)),
            tie=value["tie"],
            tie_margin=value["tie_margin"],
            model=Model.of(value["model"]),
        )
