"""OnlineVPO, Algorithm 1 of arXiv 2412.15159, over three protocols.

    G_ref <- G_theta
    for each batch of prompts x:
        z^1..z^N ~ G_theta(.|x)                           candidates from the *current* policy
        r^i = R(decode(z^i), x)                           a video reward model scores each
        z^w, z^l = argmax r, argmin r                     best and worst make the pair
        one Diffusion-DPO update on (z^w, z^l) against G_ref
        every K updates: G_ref <- G_theta

Where this differs from the paper: (1) the swap happens at the *start* of an update, as a claim about versions and so
harmless to repeat; (2) a group without two finite, different rewards is dropped, which the paper does not treat;
(3) several groups make one update.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from policies.seeds import candidate_seeds
from policies.types import (
    Candidate,
    Drop,
    Outcome,
    Prompt,
    SampleRequest,
    Sampling,
    Scored,
    Selection,
    Update,
    UpdateStats,
    VideoShape,
)


class Generator(Protocol):
    """Draws candidates from the policy."""

    async def sample(self, request: SampleRequest) -> list[Candidate]:
        """One candidate per seed, in the order of the seeds."""
        ...


class Scorer(Protocol):
    """Scores candidates with one or several reward models."""

    async def score(self, candidates: Sequence[Candidate]) -> list[Scored]:
        """Same order. A candidate that could not be scored carries the reason instead of numbers."""
        ...


class Learner(Protocol):
    """Holds the policy and its reference."""

    @property
    def policy_version(self) -> int:
        """Number of updates in the policy's weights."""
        ...

    @property
    def reference_version(self) -> int:
        """The policy version that the reference is a copy of."""
        ...

    async def update(self, batch: Sequence[Selection], *, batch_index: int) -> UpdateStats:
        """One optimizer step on the surviving groups of a batch. A replay of `batch_index` is harmless."""
        ...

    async def update_reference(self) -> int:
        """Copies policy to reference and returns the new reference version."""
        ...


class Selector(Protocol):
    """Turns the scored candidates of a request into what an objective trains on, or into a reason to drop them."""

    def select(self, request: SampleRequest, scored: Sequence[Scored]) -> Outcome: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptBatch:
    """The prompts of update `index`."""

    index: int
    prompts: tuple[Prompt, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopPlan:
    """Everything about a batch that is arithmetic: who is asked for what, and when the reference is renewed.

    Paper letters: N = candidates_per_prompt, K = reference_update_interval (0: never).
    """

    run_seed: int
    candidates_per_prompt: int
    reference_update_interval: int
    is_online: bool
    sampling: Sampling
    shape: VideoShape

    def requests(self, batch: PromptBatch) -> list[SampleRequest]:
        """The sample requests of a batch: ids, seeds and version follow from the run seed and the batch index alone."""
        return [
            SampleRequest(
                group_id=(group_id := f"u{batch.index:06d}-p{slot:03d}"),
                prompt=prompt,
                shape=prompt.shape or self.shape,
                seeds=candidate_seeds(self.run_seed, group_id, prompt.id, count=self.candidates_per_prompt),
                policy_version=batch.index if self.is_online else 0,
                sampling=self.sampling,
            )
            for slot, prompt in enumerate(batch.prompts)
        ]

    def is_swap_due(self, learner: Learner) -> bool:
        """Every K versions, once: also true again after a crash between the swap and its commit, also then right."""
        interval, version = self.reference_update_interval, learner.policy_version
        return interval > 0 and version % interval == 0 and learner.reference_version != version


async def run_online_vpo(
    batches: Iterable[PromptBatch],
    *,
    generator: Generator,
    scorer: Scorer,
    selector: Selector,
    learner: Learner,
    plan: LoopPlan,
) -> AsyncGenerator[Update, None]:
    """Runs Algorithm 1 and yields one `Update` per batch; whoever iterates saves, logs and stops."""

    async def draw(request: SampleRequest) -> Outcome:
        candidates_N = await generator.sample(request)  # z^1..z^N ~ G_theta(.|x)
        scored_N = await scorer.score(candidates_N)  # r^i = R(decode(z^i), x)
        return selector.select(request, scored_N)  # (z^w, z^l), or why there is none

    for batch in batches:
        if plan.is_swap_due(learner):
            await learner.update_reference()  # G_ref <- G_theta
        outcomes_B = await asyncio.gather(*(draw(request) for request in plan.requests(batch)))
        kept_B = [outcome for outcome in outcomes_B if not isinstance(outcome, Drop)]
        stats = await learner.update(kept_B, batch_index=batch.index)  # one Diffusion-DPO step
        yield Update(batch_index=batch.index, outcomes=tuple(outcomes_B), stats=stats)
