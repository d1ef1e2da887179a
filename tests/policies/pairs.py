"""Pairs for the tests of the learner: latents from a seed, rewards as asked for."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from policies.types import Candidate, Group, Pair, Prompt, Scored, VideoShape
from tests.policies.toy_policy import CHANNELS, SHAPE


def candidate(latents: object, *, group_id: str = "g0", text: str = "a red ball", seed: int = 0,
              shape: VideoShape = SHAPE, frames: object = None) -> Candidate:  # fmt: skip
    prompt = Prompt(id=f"prompt of {group_id}", text=text)
    return Candidate(group_id=group_id, prompt=prompt, shape=shape, seed=seed, policy_version=0, weights_hash="0",
                     latents=latents, frames=frames)  # fmt: skip


def pair(chosen: object, rejected: object, *, group_id: str = "g0", text: str = "a red ball",
         shape: VideoShape = SHAPE, gap: float = 1.0) -> Pair:  # fmt: skip
    """A pair of these latents."""
    members = tuple(
        Scored(candidate=candidate(latents, group_id=group_id, text=text, seed=seed, shape=shape), scores={"VQ": score})
        for seed, (latents, score) in enumerate(((chosen, gap), (rejected, 0.0)))
    )
    group = Group(group_id=group_id, prompt=members[0].candidate.prompt, members=members, rewards=(gap, 0.0))
    return Pair(group=group, chosen=0, rejected=1)


def random_latents(seed: int, *, shape: VideoShape = SHAPE) -> Tensor:
    size = (CHANNELS, shape.num_frames, shape.height, shape.width)
    return torch.randn(size, generator=torch.Generator().manual_seed(seed))


def random_pairs(count: int, *, shapes: Sequence[VideoShape] = (SHAPE,), first: int = 0) -> list[Pair]:
    """Pairs of different groups, prompts and, in turn, shapes; chosen latents are bright, rejected ones dark."""
    return [
        pair(
            random_latents(2 * i, shape=(shape := shapes[i % len(shapes)])) + 0.5,
            random_latents(2 * i + 1, shape=shape) - 0.5,
            group_id=f"g{i}",
            text=f"ball {i}",
            shape=shape,
            gap=1.0 + i,
        )
        for i in range(first, first + count)
    ]
