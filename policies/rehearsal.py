"""Pairs of no meaning, to go through an update's computation with before the first video is drawn."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from policies.types import Candidate, Group, Pair, Prompt, Scored, VideoShape


def noise_pairs(prompts: Sequence[Prompt], shape: VideoShape, latent_shape: Sequence[int]) -> list[Pair]:
    """One pair per prompt, all of the same two latents of noise; the global random state is left alone."""
    latents_2 = torch.randn(2, *latent_shape, generator=torch.Generator().manual_seed(0))
    return [_pair(prompt, shape, latents_2) for prompt in prompts]


def _pair(prompt: Prompt, shape: VideoShape, latents_2: Tensor) -> Pair:
    group_id = f"rehearsal-{prompt.id}"
    members = tuple(
        Scored(
            candidate=Candidate(
                group_id=group_id,
                prompt=prompt,
                shape=shape,
                seed=seed,
                policy_version=0,
                weights_hash="",
                latents=latents,
                frames=None,
            ),
            scores={},
        )
        for seed, latents in enumerate(latents_2)
    )
    return Pair(
        group=Group(group_id=group_id, prompt=prompt, members=members, rewards=(1.0, 0.0)), chosen=0, rejected=1
    )
