"""Where on the noise path a pair is compared: the time and the noise of every draw, from seeds alone.

A draw belongs to (run seed, batch, group, draw number): not to a rank, a device or the size of a micro-batch, so any
number of learner ranks trains on the same draws and a resumed run repeats them. Chosen and rejected, policy and
reference all share one draw; only then does the large error that is common to them cancel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from policies.config import ObjectiveConfig
from policies.seeds import seed_for

# Noise fractions stay this far from 0 and 1: at 0 nothing is left to predict, at 1 the sample is gone.
_MARGIN = 2.0**-20


@dataclass(frozen=True, slots=True, kw_only=True)
class NoiseDraw:
    """One draw: the noise fraction u in the open interval (0, 1) and the noise of a latent, both on CPU."""

    u: Tensor  # () float32
    noise: Tensor  # the latent's shape, float32


def noise_fractions(count: int, *, objective: ObjectiveConfig, rng: torch.Generator) -> Tensor:
    """Noise fractions from the configured density.

    Args:
        count: how many.
        objective: `timestep_density` uniform, or logit_normal: sigmoid of a normal with logit_mean and logit_std
            (arXiv 2403.03206, section 3.1).
        rng: a CPU generator.
    Returns:
        (count,) float32 in the open interval (0, 1); 1 is pure noise. Not yet a model's time: see `VideoPolicy.times`.
    """
    if objective.timestep_density == "uniform":
        u_B = torch.rand(count, generator=rng, dtype=torch.float64)
    else:
        normal_B = torch.randn(count, generator=rng, dtype=torch.float64)
        u_B = torch.sigmoid(objective.logit_mean + objective.logit_std * normal_B)
    return u_B.clamp(_MARGIN, 1 - _MARGIN).float()


def noise_draw(
    objective: ObjectiveConfig,
    *,
    run_seed: int,
    batch_index: int,
    group_id: str,
    draw: int,
    latent_shape: Sequence[int],
) -> NoiseDraw:
    """The draw of this name: the same wherever and however often it is made."""
    name = (run_seed, batch_index, group_id, draw)
    time_rng = torch.Generator("cpu").manual_seed(seed_for("time", *name))
    noise_rng = torch.Generator("cpu").manual_seed(seed_for("noise", *name))
    return NoiseDraw(
        u=noise_fractions(1, objective=objective, rng=time_rng)[0],
        noise=torch.randn(tuple(latent_shape), generator=noise_rng),
    )
