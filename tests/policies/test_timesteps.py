import math

import pytest
import torch

from policies.config import ObjectiveConfig
from policies.timesteps import noise_draw, noise_fractions

COUNT = 20_000
LATENT = (2, 3, 4, 4)


def fractions(**settings: object) -> torch.Tensor:
    objective = ObjectiveConfig.model_validate(settings)
    return noise_fractions(COUNT, objective=objective, rng=torch.Generator("cpu").manual_seed(0))


def test_uniform_density_is_uniform() -> None:
    u = fractions(timestep_density="uniform")
    assert u.mean().item() == pytest.approx(0.5, abs=0.01)
    for q in (0.05, 0.25, 0.75, 0.95):
        assert u.quantile(q).item() == pytest.approx(q, abs=0.015)


@pytest.mark.parametrize(("mean", "std"), [(0.0, 1.0), (-0.7, 0.5), (1.0, 2.0)])
def test_logit_normal_density_has_the_quantiles_of_a_squashed_normal(mean: float, std: float) -> None:
    u = fractions(timestep_density="logit_normal", logit_mean=mean, logit_std=std)
    for q, z in ((0.05, -1.6449), (0.25, -0.6745), (0.5, 0.0), (0.75, 0.6745), (0.95, 1.6449)):
        expected = 1 / (1 + math.exp(-(mean + std * z)))
        assert u.quantile(q).item() == pytest.approx(expected, abs=0.02)


@pytest.mark.parametrize("density", ["uniform", "logit_normal"])
def test_fractions_stay_inside_the_open_interval(density: str) -> None:
    u = fractions(timestep_density=density, logit_std=40.0)
    assert u.dtype == torch.float32
    assert u.min() > 0 and u.max() < 1


def draw(**changes: object) -> tuple[float, torch.Tensor]:
    name: dict[str, object] = {"run_seed": 1, "batch_index": 2, "group_id": "g", "draw": 3} | changes
    made = noise_draw(ObjectiveConfig(), latent_shape=LATENT, **name)  # type: ignore[arg-type]
    return made.u.item(), made.noise


def test_a_draw_repeats_whatever_the_global_random_state() -> None:
    u, noise = draw()
    torch.manual_seed(99)
    again_u, again_noise = draw()
    assert u == again_u and torch.equal(noise, again_noise)
    assert noise.shape == LATENT and noise.dtype == torch.float32


@pytest.mark.parametrize("change", [{"run_seed": 0}, {"batch_index": 0}, {"group_id": "h"}, {"draw": 0}])
def test_every_part_of_a_draws_name_changes_its_time_and_noise(change: dict[str, object]) -> None:
    u, noise = draw()
    other_u, other_noise = draw(**change)
    assert u != other_u and not torch.isclose(noise, other_noise).any()


def test_noise_is_standard_normal() -> None:
    noise = noise_draw(
        ObjectiveConfig(), run_seed=0, batch_index=0, group_id="g", draw=0, latent_shape=(4, 10, 30, 30)
    ).noise
    assert noise.mean().item() == pytest.approx(0, abs=0.02) and noise.std().item() == pytest.approx(1, abs=0.02)
