"""Diffusion-DPO (arXiv 2311.12908) and Flow-DPO (arXiv 2501.13918): a pair, judged by its denoising errors.

    e    = mean over all latent elements of (prediction - target)^2      one number per sample
    z    = -beta/2 [ (e_w - e_w_ref) - (e_l - e_l_ref) ]                 the margin
    loss = -log sigmoid(z)

Legend: w chosen, l rejected, ref the reference; chosen and rejected share time and noise, policy and reference share
the noisy sample. Where this differs from the papers:

1. Errors are means, so `beta` does not change its meaning with the size of the video. Flow-DPO prints a sum:
   beta_sum = beta / (elements of a latent).
2. The 1/2 is explicit, as in Diffusion-DPO's own code. Code without it uses half of this beta.
3. The target is the network's own (v for v-prediction, noise - clean for flow matching). `beta_schedule: quadratic`
   weighs it back to the noise error of the papers' derivation; Flow-DPO found that constant beta works better.

Shape letters: B pairs times draws, called items. A latent is one sample in the family's own order.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from policies.config import ObjectiveConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class PairTargets:
    """What the predictions of B pairs are judged against; nothing in it carries a gradient."""

    target_chosen_B: Tensor  # (B, *latent) float32
    target_rejected_B: Tensor
    reference_chosen_B: Tensor  # the reference's predictions at the same noisy samples
    reference_rejected_B: Tensor
    noise_error_weight_B: Tensor  # (B,): squared prediction error to squared noise error


def squared_error(prediction_B: Tensor, target_B: Tensor) -> Tensor:
    """Squared error per sample: the mean over all axes but the first. Shapes (B, *latent) to (B,) float64.

    Squares are float32 whatever the inputs' precision: in bfloat16 a change of the error below 0.1 % would read as
    exactly none. Their mean is float64, since what trains is a difference of nearly equal errors times a large beta:
    rounding it to float32 shows in the loss at 1e-5 and makes two learner ranks differ from one.
    """
    return (prediction_B.float() - target_B.float()).square().flatten(1).mean(1, dtype=torch.float64)


def dpo_margin(
    error_chosen_B: Tensor,
    error_rejected_B: Tensor,
    ref_error_chosen_B: Tensor,
    ref_error_rejected_B: Tensor,
    *,
    beta: float | Tensor,
) -> Tensor:
    """The margin z: positive when the policy prefers the chosen sample more than the reference does.

    Args:
        error_chosen_B: squared error, *mean* over a latent's elements (beta is on this scale). (B,); so are the
            other three.
        beta: > 0, dimensionless; a number, or one per item, (B,).
    Returns:
        (B,); 0 where policy and reference agree.
    Raises:
        ValueError: the shapes differ.
    """
    shapes = {tuple(e.shape) for e in (error_chosen_B, error_rejected_B, ref_error_chosen_B, ref_error_rejected_B)}
    if len(shapes) != 1 or error_chosen_B.dim() != 1:
        raise ValueError(f"errors have shapes {sorted(shapes)}; a margin needs four of one shape (B,)")
    if isinstance(beta, Tensor) and beta.shape not in (error_chosen_B.shape, ()):
        raise ValueError(f"beta has shape {tuple(beta.shape)}; give a number or one per item, {tuple(*shapes)}")
    delta_B = (error_chosen_B - ref_error_chosen_B) - (error_rejected_B - ref_error_rejected_B)
    return -0.5 * beta * delta_B


def diffusion_dpo_loss(
    error_chosen_B: Tensor,
    error_rejected_B: Tensor,
    ref_error_chosen_B: Tensor,
    ref_error_rejected_B: Tensor,
    *,
    beta: float | Tensor,
) -> Tensor:
    """Diffusion-DPO's loss per item, -log sigmoid(z), with z and the arguments of `dpo_margin`.

    Its gradient is c_w de_w + c_l de_l with c_w = beta/2 sigmoid(-z) = -c_l.

    Returns:
        (B,), not averaged: whoever sums knows the denominator, which spans micro-batches and ranks. log 2
        where policy and reference agree.
    Raises:
        ValueError: the shapes differ.
    """
    margin_B = dpo_margin(error_chosen_B, error_rejected_B, ref_error_chosen_B, ref_error_rejected_B, beta=beta)
    return -F.logsigmoid(margin_B)


class DpoObjective:
    """DPO as the learner uses it: predictions of pairs to one loss and one row of metrics per item."""

    metric_names: tuple[str, ...] = (
        "implicit_accuracy",
        "margin_mean",
        "margin_abs_mean",
        "chosen_error_delta",
        "rejected_error_delta",
        "gate_openness",
        "kl_reference",
    )

    def __init__(self, config: ObjectiveConfig) -> None:
        self._config = config

    def loss(
        self, prediction_chosen_B: Tensor, prediction_rejected_B: Tensor, targets: PairTargets
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Loss and metrics of each item.

        Args:
            prediction_chosen_B: the policy's predictions for the chosen samples, (B, *latent); with gradient.
            prediction_rejected_B: those for the rejected samples, at the same time and noise.
            targets: what they are judged against.
        Returns:
            The loss (B,) and, without gradient, each of `metric_names` as (B,); their mean over items is what
            an update reports. `implicit_accuracy` counts a tie as 1/2, `gate_openness` is sigmoid(-z): 1/2 at the
            start, near 0 when the pair has nothing more to teach.
        """
        error_chosen_B = squared_error(prediction_chosen_B, targets.target_chosen_B)
        error_rejected_B = squared_error(prediction_rejected_B, targets.target_rejected_B)
        ref_error_chosen_B = squared_error(targets.reference_chosen_B, targets.target_chosen_B)
        ref_error_rejected_B = squared_error(targets.reference_rejected_B, targets.target_rejected_B)
        errors = (error_chosen_B, error_rejected_B, ref_error_chosen_B, ref_error_rejected_B)
        beta = self.beta(targets.noise_error_weight_B)
        loss_B = diffusion_dpo_loss(*errors, beta=beta)
        with torch.no_grad():
            margin_B = dpo_margin(*errors, beta=beta)
            moved_chosen_B = squared_error(prediction_chosen_B, targets.reference_chosen_B)
            moved_rejected_B = squared_error(prediction_rejected_B, targets.reference_rejected_B)
            metrics = {
                "implicit_accuracy": 0.5 * (margin_B.sign() + 1),
                "margin_mean": margin_B,
                "margin_abs_mean": margin_B.abs(),
                "chosen_error_delta": error_chosen_B - ref_error_chosen_B,
                "rejected_error_delta": error_rejected_B - ref_error_rejected_B,
                "gate_openness": torch.sigmoid(-margin_B),
                "kl_reference": 0.5 * (moved_chosen_B + moved_rejected_B),
            }
        return loss_B, {name: value_B.detach() for name, value_B in metrics.items()}

    def beta(self, noise_error_weight_B: Tensor) -> Tensor:
        """Beta of each item, (B,): constant, or decaying with the noise (arXiv 2501.13918, section 4.2)."""
        weight_B = noise_error_weight_B.float()
        is_constant = self._config.beta_schedule == "constant"
        return self._config.beta * (torch.ones_like(weight_B) if is_constant else weight_B)
