"""Small outcomes that tests record, count and read back."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from policies.types import Candidate, Drop, Group, Outcome, Pair, Prompt, Scored, VideoShape

SHAPE = VideoShape(num_frames=9, height=32, width=32)


def group(
    group_id: str = "u000003-p001", rewards: Sequence[float | None] = (0.25, -1.0, 0.5), version: int = 3
) -> Group:
    """A group whose only dimension equals its reward; None is a member that could not be scored."""
    prompt = Prompt(id="p7", text="a red circle moving left slowly", shape=SHAPE)
    members = tuple(
        Scored(
            candidate=Candidate(
                group_id=group_id,
                prompt=prompt,
                shape=SHAPE,
                seed=100 + index,
                policy_version=version,
                weights_hash=f"hash-{version}",
                latents=np.full((2, 3), index, np.float32),
                frames=None,
            ),
            scores={} if reward is None else {"VQ": reward},
            failure="decoder gave up" if reward is None else None,
        )
        for index, reward in enumerate(rewards)
    )
    return Group(group_id=group_id, prompt=prompt, members=members, rewards=tuple(rewards))


def pair(group_id: str = "u000003-p001", rewards: Sequence[float | None] = (0.25, -1.0, 0.5)) -> Pair:
    """The best and worst of a group."""
    ranked = sorted((reward, index) for index, reward in enumerate(rewards) if reward is not None)
    return Pair(group=group(group_id, rewards), chosen=ranked[-1][1], rejected=ranked[0][1])


def drop(group_id: str = "u000003-p002") -> Outcome:
    """A group that had one score only."""
    return Drop(group=group(group_id, (0.5, None)), reason="too_few_scores")
