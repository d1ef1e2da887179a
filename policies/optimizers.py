"""What the bundled models are trained with: Muon for the matrices and AdamW for the rest, a schedule, an average.

Muon is Keller Jordan's (kellerjordan.github.io/posts/muon), with the update's size matched to AdamW's
(arXiv 2502.16982), so that one learning rate serves both. It differs from torch.optim.Muon in three points:
1. it also takes convolution kernels, each as a matrix (out, in * height * width * ...);
2. it computes in the weight's own precision, since bfloat16 is slow on most CPUs;
3. four Newton-Schulz iterations are the default.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from policies.errors import InputError, NonFiniteError


def orthogonalized(matrix: Tensor, iterations: int = 4) -> Tensor:
    """Nearly U V^T of a matrix U S V^T, by Newton-Schulz iterations. (R, C) to (R, C)."""
    a, b, c = 3.4445, -4.7750, 2.0315
    is_tall = matrix.size(0) > matrix.size(1)
    x = matrix.T if is_tall else matrix
    x = x / (x.norm() + 1e-7)
    for _ in range(iterations):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    result: Tensor = x.T if is_tall else x
    return result


class Muon(torch.optim.Optimizer):
    """Momentum whose update is orthogonalized. Parameters have two or more dimensions; the first is the output."""

    def __init__(self, params: Iterable[nn.Parameter], lr: float, momentum: float = 0.95) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        assert closure is None, "Muon evaluates no closure"
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                state = self.state[weight]
                if not state:
                    state["momentum"] = torch.zeros_like(weight)
                average = state["momentum"].lerp_(weight.grad, 1 - group["momentum"])
                update = orthogonalized(weight.grad.lerp(average, group["momentum"]).flatten(1))
                size = 0.2 * max(update.shape) ** 0.5  # the RMS of an AdamW update
                weight.add_(update.view_as(weight), alpha=-group["lr"] * size)


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """Learning rate over a fixed number of steps: linear warm-up, flat, then linear to zero from decay_start on.

    decay_start is a share of the steps; 1: it stays flat.
    """

    lr: float
    steps: int
    warmup_steps: int
    decay_start: float = 0.5

    def __post_init__(self) -> None:
        if self.lr <= 0 or self.steps < 1 or self.warmup_steps < 0 or not 0 <= self.decay_start <= 1:
            raise InputError(f"{self}: lr > 0, steps >= 1, warmup_steps >= 0 and 0 <= decay_start <= 1 are needed.")

    def at(self, step: int) -> float:
        """Learning rate of a step counted from 0."""
        warm = min(1.0, (step + 1) / (self.warmup_steps + 1))
        if self.decay_start == 1:
            return self.lr * warm
        return self.lr * warm * min(1.0, (self.steps - step) / (self.steps * (1 - self.decay_start)))


class Descent:
    """One training: both optimizers, the schedule, gradient clipping and an exponential average of the weights.

    Args:
        model: its parameters that need a gradient are trained.
        schedule: gives the learning rate of every step.
        is_muon: which parameters (by name and tensor) Muon takes; AdamW takes the others, biases and norms too.
        ema_decay: of the averaged weights; 0 keeps no average.
    """

    def __init__(
        self,
        model: nn.Module,
        schedule: Schedule,
        *,
        is_muon: Callable[[str, Tensor], bool],
        ema_decay: float = 0.0,
        clip_norm: float = 1.0,
    ) -> None:
        named = [(name, weight) for name, weight in model.named_parameters() if weight.requires_grad]
        matrices = [weight for name, weight in named if is_muon(name, weight)]
        others = [weight for name, weight in named if not is_muon(name, weight)]
        self._weights = [weight for _, weight in named]
        self._average = [weight.detach().clone() for weight in self._weights]
        self._optimizers: list[torch.optim.Optimizer] = []
        if matrices:
            self._optimizers.append(Muon(matrices, lr=schedule.lr))
        if others:
            self._optimizers.append(torch.optim.AdamW(others, lr=schedule.lr, betas=(0.9, 0.95), weight_decay=0.0))
        self._schedule, self._ema_decay, self._clip_norm = schedule, ema_decay, clip_norm
        self.steps_done = 0

    def step(self, loss: Tensor) -> float:
        """Back-propagates the loss, changes the weights, and returns the loss as a number.

        Raises:
            NonFiniteError: the loss or its gradient is not finite; the weights are left as they were.
        """
        loss.backward()  # type: ignore[no-untyped-call]
        norm = nn.utils.clip_grad_norm_(self._weights, self._clip_norm)
        if not torch.isfinite(loss.detach()) or not torch.isfinite(norm):
            raise NonFiniteError(
                f"step {self.steps_done}: loss {loss.item()}, gradient norm {norm.item()}; lower the learning rate "
                f"(now {self._schedule.at(self.steps_done):.2g})."
            )
        for optimizer in self._optimizers:
            for group in optimizer.param_groups:
                group["lr"] = self._schedule.at(self.steps_done)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.steps_done += 1
        # early on the start weights would dominate a slow average, so it begins as a plain mean
        decay = min(self._ema_decay, self.steps_done / (self.steps_done + 10))
        for average, weight in zip(self._average, self._weights, strict=True):
            average.lerp_(weight.detach(), 1 - decay)
        return float(loss.detach())

    @torch.no_grad()
    def load_average(self) -> None:
        """Puts the averaged weights into the model."""
        for average, weight in zip(self._average, self._weights, strict=True):
            weight.copy_(average)
