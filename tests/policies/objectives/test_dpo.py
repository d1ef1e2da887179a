import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from policies.config import ObjectiveConfig
from policies.objectives.dpo import DpoObjective, PairTargets, diffusion_dpo_loss, dpo_margin, squared_error

LATENT = (4, 3, 6, 5)


def errors(seed: int, count: int = 7) -> list[torch.Tensor]:
    return list(torch.rand(4, count, generator=torch.Generator().manual_seed(seed)).unbind())


def targets(count: int, *, seed: int = 0, weight: torch.Tensor | None = None) -> PairTargets:
    rng = torch.Generator().manual_seed(seed)
    chosen, rejected, ref_chosen, ref_rejected = torch.randn(4, count, *LATENT, generator=rng)
    return PairTargets(
        target_chosen_B=chosen,
        target_rejected_B=rejected,
        reference_chosen_B=chosen + 0.1 * ref_chosen,
        reference_rejected_B=rejected + 0.1 * ref_rejected,
        noise_error_weight_B=torch.ones(count) if weight is None else weight,
    )


def test_an_error_is_one_number_per_sample_and_the_mean_over_everything_else() -> None:
    prediction, target = torch.randn(2, 5, *LATENT, generator=torch.Generator().manual_seed(0))
    error = squared_error(prediction, target)
    assert error.shape == (5,)
    sums = (prediction - target).square().sum(dim=(1, 2, 3, 4))
    torch.testing.assert_close(error.float(), sums / math.prod(LATENT))


def test_an_error_of_bfloat16_predictions_is_not_reduced_in_bfloat16() -> None:
    target = torch.zeros(1, *LATENT)
    a, b = torch.full((1, *LATENT), 0.3), torch.full((1, *LATENT), 0.3)
    b[0, 0, 0, 0, 0] += 0.1
    a, b = a.bfloat16(), b.bfloat16()
    assert squared_error(b, target) > squared_error(a, target)
    assert b.square().flatten(1).mean(1) == a.square().flatten(1).mean(1)  # what bfloat16 would have said


def test_loss_is_log_two_and_margin_zero_where_policy_equals_reference() -> None:
    chosen, rejected, *_ = errors(0)
    assert torch.equal(dpo_margin(chosen, rejected, chosen, rejected, beta=5000.0), torch.zeros(7))
    loss = diffusion_dpo_loss(chosen, rejected, chosen, rejected, beta=5000.0)
    assert torch.equal(loss, torch.full((7,), math.log(2)))


def test_loss_is_computed_per_pair_and_not_on_mean_errors() -> None:
    four = errors(1)
    one_by_one = torch.cat([diffusion_dpo_loss(*(e[i : i + 1] for e in four), beta=40.0) for i in range(7)])
    torch.testing.assert_close(diffusion_dpo_loss(*four, beta=40.0), one_by_one)
    of_means = diffusion_dpo_loss(*(e.mean()[None] for e in four), beta=40.0)
    assert abs(of_means.item() - one_by_one.mean().item()) > 0.1


@given(
    e=st.lists(st.floats(0, 2, width=32), min_size=4, max_size=4),
    beta=st.floats(0.1, 5000),
)
def test_gradient_has_the_closed_form_coefficients(e: list[float], beta: float) -> None:
    four = [torch.tensor([value], dtype=torch.float64, requires_grad=True) for value in e]
    chosen, rejected = four[:2]
    torch.autograd.backward(diffusion_dpo_loss(*four, beta=beta).sum())
    z = dpo_margin(*four, beta=beta).detach()
    coefficient = beta / 2 * torch.sigmoid(-z)
    underflow = 1e-300  # beyond it float64 has no digits left to compare
    torch.testing.assert_close(chosen.grad, coefficient, rtol=1e-6, atol=underflow)
    torch.testing.assert_close(rejected.grad, -coefficient, rtol=1e-6, atol=underflow)


def test_half_of_beta_is_in_the_margin() -> None:
    one, zero = torch.ones(1), torch.zeros(1)
    assert dpo_margin(zero, one, one, one, beta=3.0).item() == 1.5  # the chosen sample's error fell by 1
    assert dpo_margin(one, zero, one, one, beta=3.0).item() == -1.5


def test_margin_refuses_errors_that_were_not_reduced_per_sample() -> None:
    good, bad = torch.ones(2), torch.ones(2, 5)
    with pytest.raises(ValueError, match="one shape"):
        dpo_margin(bad, bad, bad, bad, beta=1.0)
    with pytest.raises(ValueError, match="one shape"):
        dpo_margin(good, good, good, torch.ones(1), beta=1.0)
    with pytest.raises(ValueError, match="beta has shape"):
        dpo_margin(good, good, good, good, beta=torch.ones(3))


def test_quadratic_schedule_multiplies_beta_by_the_noise_error_weight() -> None:
    weight = torch.tensor([1.0, 0.25, 0.0])
    constant = DpoObjective(ObjectiveConfig(beta=80.0))
    quadratic = DpoObjective(ObjectiveConfig(beta=80.0, beta_schedule="quadratic"))
    assert constant.beta(weight).tolist() == [80.0, 80.0, 80.0]
    assert quadratic.beta(weight).tolist() == [80.0, 20.0, 0.0]
    target = targets(3, weight=weight)
    prediction = target.target_chosen_B * 0.9
    margins = [o.loss(prediction, target.target_rejected_B, target)[1]["margin_mean"] for o in (constant, quadratic)]
    torch.testing.assert_close(margins[1], margins[0] * weight)


def test_metrics_of_a_policy_that_equals_its_reference() -> None:
    target = targets(4)
    loss, metrics = DpoObjective(ObjectiveConfig()).loss(target.reference_chosen_B, target.reference_rejected_B, target)
    assert torch.equal(loss, torch.full((4,), math.log(2), dtype=torch.float64))
    assert metrics["implicit_accuracy"].tolist() == [0.5] * 4  # ties count as one half
    assert metrics["gate_openness"].tolist() == [0.5] * 4
    zeros = ("margin_mean", "margin_abs_mean", "chosen_error_delta", "rejected_error_delta", "kl_reference")
    assert all(metrics[name].tolist() == [0.0] * 4 for name in zeros)
    assert set(metrics) == set(DpoObjective.metric_names)


def test_metrics_tell_chosen_from_rejected() -> None:
    target = targets(2)
    better = target.target_chosen_B + 0.5 * (target.reference_chosen_B - target.target_chosen_B)
    loss, metrics = DpoObjective(ObjectiveConfig(beta=500.0)).loss(better, target.reference_rejected_B, target)
    assert (metrics["chosen_error_delta"] < 0).all()
    assert metrics["rejected_error_delta"].tolist() == [0.0, 0.0]
    assert metrics["implicit_accuracy"].tolist() == [1.0, 1.0]
    assert (loss < math.log(2)).all() and (metrics["gate_openness"] < 0.5).all()
    torch.testing.assert_close(metrics["margin_mean"], -250 * metrics["chosen_error_delta"])
    moved = (better - target.reference_chosen_B).square().flatten(1).mean(1)
    torch.testing.assert_close(metrics["kl_reference"].float(), moved / 2)  # the rejected prediction has not moved


def test_metrics_carry_no_gradient() -> None:
    target = targets(2)
    prediction = target.reference_chosen_B.clone().requires_grad_()
    _, metrics = DpoObjective(ObjectiveConfig()).loss(prediction, target.reference_rejected_B, target)
    assert not any(value.requires_grad for value in metrics.values())


def test_a_saturated_gate_gives_a_finite_loss() -> None:
    zero, huge = torch.zeros(1), torch.full((1,), 1e6)
    assert diffusion_dpo_loss(huge, zero, zero, zero, beta=5000.0).isfinite().all()
    assert diffusion_dpo_loss(zero, huge, zero, zero, beta=5000.0).item() == 0.0
    assert F.logsigmoid(torch.tensor(0.0)).item() == -torch.tensor(math.log(2)).item()
