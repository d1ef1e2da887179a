"""Scores videos with the weights of the moment, and says how well scores of held-out examples agree with people."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from policies.errors import InputError
from policies.rewards.model import Prepared
from policies.rewards.training.examples import Example, PromptedVideo, videos_of
from policies.rewards.training.metrics import PairAgreement, RatingAgreement, pair_agreement, rating_agreement
from policies.rewards.training.videos import VideoSource
from policies.rewards.videoreward.template import DIMENSIONS


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """Of the examples whose videos can be read."""

    by_dimension: Mapping[str, PairAgreement] | Mapping[str, RatingAgreement]
    examples: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Measuring:
    """Args:
    measure: raw scores (N, D) of prepared videos, without gradient.
    videos_at_once: handed to it; how many go through the network at once it decides itself.
    """

    measure: Callable[[Sequence[Prepared]], Tensor]
    source: VideoSource
    videos_at_once: int

    def agreement(self, examples: Sequence[Example]) -> Agreement:
        """Scores each video once. Raises InputError when none of them can be read."""
        rows = self.scores(videos_of(examples))
        used = [example for example in examples if all(video in rows for video in example.videos)]
        if not used:
            raise InputError("none of the held-out videos can be read; check data.heldout and data.videos")
        labels = torch.tensor([example.labels for example in used])
        sides = [torch.stack([rows[example.videos[side]] for example in used]) for side in range(len(used[0].videos))]
        if len(sides) == 2:
            return Agreement(by_dimension=pair_agreement(sides[0], sides[1], labels, DIMENSIONS), examples=len(used))
        return Agreement(by_dimension=rating_agreement(sides[0], labels, DIMENSIONS), examples=len(used))

    def scores(self, videos: Sequence[PromptedVideo]) -> dict[PromptedVideo, Tensor]:
        """Raw scores (D,) of each video that can be read."""
        found: dict[PromptedVideo, Tensor] = {}
        waiting: dict[PromptedVideo, Prepared] = {}
        for place, (video, prepared) in enumerate(zip(videos, self.source.inputs(videos), strict=True), 1):
            if prepared is not None:
                waiting[video] = prepared
            if waiting and (len(waiting) == self.videos_at_once or place == len(videos)):
                found |= dict(zip(waiting, self.measure(list(waiting.values())), strict=True))
                waiting.clear()
        return found
