"""The learner's optimizer: one flat gradient in, clipped, through AdamW with a linear warm-up; all of its state out."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from policies.config import LearnerConfig
from policies.errors import WeightsMismatchError

_MOMENTS = ("exp_avg", "exp_avg_sq")


class ClippedAdam:
    """AdamW on named weights. The gradient travels as one flat vector, which ranks can sum in one call.

    Args:
        weights: by stable names; their order is that of the flat gradient.
    """

    def __init__(self, weights: Mapping[str, nn.Parameter], config: LearnerConfig) -> None:
        self._weights, self._config = dict(weights), config
        self._optimizer = torch.optim.AdamW(
            self._weights.values(),
            lr=config.learning_rate,
            betas=config.adam_betas,
            weight_decay=config.weight_decay,
        )
        self.steps = 0

    def clear_gradient(self) -> None:
        """Forgets what backward passes have left on the weights."""
        self._optimizer.zero_grad(set_to_none=True)

    def flat_gradient(self) -> Tensor:
        """A copy of what backward passes have left on the weights, zero where they left nothing. (weights,)."""
        weights = self._weights.values()
        return torch.cat([torch.zeros_like(w).flatten() if w.grad is None else w.grad.flatten() for w in weights])

    def step(self, gradient: Tensor, norm: float) -> float:
        """Changes the weights once.

        Args:
            gradient: flat, (weights,).
            norm: the gradient's; above max_gradient_norm it is scaled down to that.
        Returns:
            The learning rate of this step.
        """
        if norm > self._config.max_gradient_norm:
            gradient = gradient * (self._config.max_gradient_norm / norm)
        weights = list(self._weights.values())
        for weight, part in zip(weights, torch.split(gradient, [w.numel() for w in weights]), strict=True):
            weight.grad = part.view_as(weight)
        warm = min(1.0, (self.steps + 1) / max(1, self._config.warmup_updates))
        learning_rate = self._config.learning_rate * warm
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate
        self._optimizer.step()
        self.clear_gradient()
        self.steps += 1
        return learning_rate

    def moments(self) -> dict[str, Tensor]:
        """Copies of Adam's moments on CPU, as `exp_avg/name` and `exp_avg_sq/name`; none before the first step."""
        return {
            f"{moment}/{name}": self._optimizer.state[weight][moment].detach().cpu().clone()
            for moment in _MOMENTS
            for name, weight in self._weights.items()
            if weight in self._optimizer.state
        }

    def load(self, moments: Mapping[str, Tensor], *, steps: int) -> None:
        """Goes on after so many steps with these moments. Raises WeightsMismatchError if they do not fit."""
        expected = {f"{moment}/{name}": w for moment in _MOMENTS for name, w in self._weights.items()} if steps else {}
        shapes = {name: tuple(tensor.shape) for name, tensor in moments.items()}
        if shapes != {name: tuple(weight.shape) for name, weight in expected.items()}:
            raise WeightsMismatchError(
                f"the learner's state has {len(moments)} moments of Adam after {steps} steps, and not the "
                f"{len(expected)} of these weights; it belongs to another policy or LoRA configuration"
            )
        self._optimizer.state.clear()
        self.steps = steps
        for name, weight in self._weights.items() if steps else ():
            self._optimizer.state[weight] = {
                "step": torch.tensor(float(steps)),
                **{moment: moments[f"{moment}/{name}"].to(weight.device).clone() for moment in _MOMENTS},
            }
