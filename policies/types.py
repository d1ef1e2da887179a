"""The values that travel between generator, scorer and learner. Plain frozen data; no torch import.

One word, one meaning: a *group* is the N candidates of one prompt; a *score* is one named dimension of one reward
model; the *reward* is the scalar that ranks a group; a *selection* is what an objective trains on (DPO: a pair);
a *batch* is the groups of one update.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

# A handle stands for an array that may live elsewhere: a tensor or numpy array in one process, a Ray object
# reference on a cluster. Whoever only passes candidates on never looks inside.
Handle: TypeAlias = Any


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoShape:
    """Size of a video in pixels: frames, height, width."""

    num_frames: int
    height: int
    width: int

    def __str__(self) -> str:
        return f"{self.num_frames} frames of {self.height}x{self.width}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """A prompt with its identity and, where it differs from the run's default, its shape."""

    id: str
    text: str
    shape: VideoShape | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How candidates are drawn. Names are those of diffusers' pipelines."""

    num_inference_steps: int
    guidance_scale: float
    max_sequence_length: int
    negative_prompt: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleRequest:
    """Asks for one candidate per seed, all of one prompt, from one policy version: a group or any slice of it."""

    group_id: str
    prompt: Prompt
    shape: VideoShape
    seeds: tuple[int, ...]
    policy_version: int
    sampling: Sampling

    def slices(self, size: int) -> list[SampleRequest]:
        """Splits into requests of at most `size` seeds. A slice is sampled as one batch wherever it runs."""
        return [replace(self, seeds=self.seeds[i : i + size]) for i in range(0, len(self.seeds), size)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One sampled video. Records the weights it was really drawn from, and the seed that draws it again."""

    group_id: str
    prompt: Prompt
    shape: VideoShape
    seed: int
    policy_version: int
    weights_hash: str
    latents: Handle  # normalised latents in the family's layout without batch axis, float32
    frames: Handle  # uint8 (F, H, W, 3); None once scored


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """A candidate with its raw scores by dimension, or the reason there are none. A failed score is never 0."""

    candidate: Candidate
    scores: Mapping[str, float]
    failure: str | None = None

    @property
    def is_valid(self) -> bool:
        """True when every score is present and finite."""
        return self.failure is None and bool(self.scores) and all(math.isfinite(s) for s in self.scores.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """The scored candidates of one prompt, in the order of their seeds, and the reward of each (None: no score)."""

    group_id: str
    prompt: Prompt
    members: tuple[Scored, ...]
    rewards: tuple[float | None, ...]

    def __post_init__(self) -> None:
        assert len(self.members) == len(self.rewards), "one reward, or None, per member"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """DPO's selection: two members of one group. `chosen` and `rejected` are indices into `group.members`."""

    group: Group
    chosen: int
    rejected: int

    def __post_init__(self) -> None:
        if self.chosen == self.rejected:
            raise ValueError(f"group {self.group.group_id}: chosen and rejected are the same candidate {self.chosen}")

    @property
    def group_id(self) -> str:
        return self.group.group_id

    @property
    def prompt(self) -> Prompt:
        return self.group.prompt

    @property
    def chosen_candidate(self) -> Candidate:
        return self.group.members[self.chosen].candidate

    @property
    def rejected_candidate(self) -> Candidate:
        return self.group.members[self.rejected].candidate

    @property
    def gap(self) -> float:
        """Reward of chosen minus reward of rejected; negative when the selection was reversed on purpose."""
        chosen, rejected = self.group.rewards[self.chosen], self.group.rewards[self.rejected]
        assert chosen is not None and rejected is not None
        return chosen - rejected


Selection: TypeAlias = Pair  # the only selection so far; other objectives add theirs to this union


@dataclass(frozen=True, slots=True, kw_only=True)
class Drop:
    """A group that cannot train, and why: `too_few_scores` or `gap_too_small`."""

    group: Group
    reason: str

    @property
    def group_id(self) -> str:
        return self.group.group_id


Outcome: TypeAlias = Selection | Drop


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateStats:
    """What one `Learner.update` did. `loss` is None when no group survived: a skipped batch changes no weights."""

    batch_index: int
    policy_version: int  # the version that this loss belongs to: the weights before the optimizer acted
    reference_version: int
    loss: float | None
    metrics: Mapping[str, float]
    weights_hash: str  # of the weights after the update, version batch_index + 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Update:
    """One turn of the loop: every group's outcome and what the learner made of them."""

    batch_index: int
    outcomes: tuple[Outcome, ...]
    stats: UpdateStats
