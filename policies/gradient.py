"""The cut at the prediction: how the gradient of a loss on predictions reaches the weights.

An objective is an ordinary loss on the network's predictions p_1..p_S of S samples. By the chain rule

    dL/dtheta = sum_s  (dL/dp_s)^T  dp_s/dtheta,

and dL/dp_s needs the predictions only, not the activations that made them. So there are two ways to the same gradient:

    joint     predict all S samples with their activations, then one backward; the memory of S samples.
    two_pass  predict without activations, take dL/dp at the predictions, then predict again and go backward one sample
              at a time; the memory of one sample, for one more forward.

Nothing here knows the objective, so its gate, clamps and couplings between samples need no closed form.
Shape letters: S samples; a prediction is one sample in the family's own order.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeAlias, TypeVar

import torch
from torch import Tensor

GradientMode: TypeAlias = Literal["joint", "two_pass"]
Forward: TypeAlias = Callable[[slice], Tensor]  # a range of samples to their predictions, (rows, *latent)
T = TypeVar("T")


@torch.no_grad()
def predict(forward: Forward, samples: int, *, mode: GradientMode) -> Tensor:
    """Predictions (S, *latent) without gradient, computed in just the slices that `backward` would use.

    Equal slices matter: a sample's prediction differs in the last bits with the batch it is computed in, and a
    reference computed otherwise than the policy would show a margin where there is none.
    """
    if samples == 0:
        return torch.empty(0)
    return torch.cat([forward(rows) for rows in _slices(samples, mode)])


def backward(forward: Forward, samples: int, loss: Callable[[Tensor], tuple[Tensor, T]], *, mode: GradientMode) -> T:
    """Adds the gradient of `loss(predictions)` to the weights that `forward` uses.

    Args:
        forward: differentiable, deterministic (no dropout: two_pass calls it twice) and without coupling between
            samples; `forward(slice(a, b))` gives the predictions of samples a..b-1.
        samples: S, at least 1.
        loss: predictions (S, *latent) to a scalar and anything else worth returning.
        mode: see the module's docstring.
    Returns:
        What `loss` returned beside the scalar.
    """
    if mode == "joint":
        scalar, result = loss(forward(slice(0, samples)))
        torch.autograd.backward(scalar)
        return result
    leaves_S = predict(forward, samples, mode=mode).requires_grad_()
    scalar, result = loss(leaves_S)
    (gradient_S,) = torch.autograd.grad(scalar, leaves_S)
    for rows in _slices(samples, mode):
        torch.autograd.backward(forward(rows), gradient_S[rows])
    return result


def _slices(samples: int, mode: GradientMode) -> list[slice]:
    if mode == "joint":
        return [slice(0, samples)]
    return [slice(row, row + 1) for row in range(samples)]
