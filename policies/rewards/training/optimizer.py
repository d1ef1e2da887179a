"""The optimizer of reward models: groups of weights with a learning rate each, and its state by weight name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from policies.errors import NonFiniteError, WeightsMismatchError
from policies.optimizers import Muon, Schedule

_KEPT = ("step", "exp_avg", "exp_avg_sq", "momentum")  # of AdamW and Muon, by weight


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightGroup:
    """Weights, by names that are unique among all groups, with one learning rate.

    Args:
        lr: at the height of the schedule.
        is_muon: Muon takes them instead of AdamW; all have two or more dimensions.
    """

    name: str
    weights: Mapping[str, nn.Parameter]
    lr: float
    is_muon: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class AdamSettings:
    """AdamW's, and the norm that the whole gradient is scaled down to."""

    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0
    max_gradient_norm: float = 1.0


class RewardOptimizer:
    """One optimizer step after another on a gradient that backward passes have left on the weights.

    Args:
        groups: those without weights are left out.
        schedule: gives the factor on every group's learning rate; its own lr is 1.
        settings: see AdamSettings.
    """

    def __init__(self, groups: Sequence[WeightGroup], schedule: Schedule, settings: AdamSettings) -> None:
        self._groups = [group for group in groups if group.weights]
        self._weights = {name: weight for group in self._groups for name, weight in group.weights.items()}
        self._schedule, self._settings = schedule, settings
        self._optimizers = [self._optimizer(group) for group in self._groups]
        self.steps = 0

    @property
    def learning_rates(self) -> dict[str, float]:
        """Of the step to come, by group."""
        factor = self._schedule.at(self.steps)
        return {group.name: group.lr * factor for group in self._groups}

    @property
    def weights(self) -> Mapping[str, nn.Parameter]:
        """Everything that is trained, by name."""
        return self._weights

    def step(self, loss: float) -> float:
        """Changes the weights, forgets the gradient, and returns its norm before clipping.

        Raises:
            NonFiniteError: the loss or the gradient is not finite; the weights are left as they were.
        """
        norm = float(nn.utils.clip_grad_norm_(self._weights.values(), self._settings.max_gradient_norm))
        if not (torch.isfinite(torch.tensor(loss)) and torch.isfinite(torch.tensor(norm))):
            raise NonFiniteError(
                f"step {self.steps + 1}: loss {loss}, gradient norm {norm}; lower the learning rates, now "
                + ", ".join(f"{name} {rate:.2g}" for name, rate in self.learning_rates.items())
            )
        rates = self.learning_rates
        for group, optimizer in zip(self._groups, self._optimizers, strict=True):
            optimizer.param_groups[0]["lr"] = rates[group.name]
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.steps += 1
        return norm

    def state(self) -> dict[str, Tensor]:
        """Copies on CPU of every weight (`weights/name`) and what its optimizer keeps (`exp_avg/name`, ...)."""
        found = {f"weights/{name}": weight for name, weight in self._weights.items()}
        for group, optimizer in zip(self._groups, self._optimizers, strict=True):
            for name, weight in group.weights.items():
                kept = optimizer.state.get(weight, {})
                found |= {f"{part}/{name}": kept[part] for part in _KEPT if part in kept}
        return {name: tensor.detach().cpu().clone() for name, tensor in found.items()}

    @torch.no_grad()
    def load(self, state: Mapping[str, Tensor], *, steps: int) -> None:
        """Goes on after so many steps with what `state` gave.

        Raises:
            WeightsMismatchError: it belongs to other weights.
        """
        self._check(state)
        self.steps = steps
        for name, weight in self._weights.items():
            weight.copy_(state[f"weights/{name}"])
        for group, optimizer in zip(self._groups, self._optimizers, strict=True):
            optimizer.state.clear()
            for name, weight in group.weights.items():
                kept = {part: state[f"{part}/{name}"] for part in _KEPT if f"{part}/{name}" in state}
                if kept:  # AdamW keeps its count of steps on CPU
                    optimizer.state[weight] = {
                        part: tensor.clone() if part == "step" else tensor.to(weight.device).clone()
                        for part, tensor in kept.items()
                    }

    def _optimizer(self, group: WeightGroup) -> torch.optim.Optimizer:
        weights, adam = list(group.weights.values()), self._settings
        if group.is_muon:
            return Muon(weights, lr=group.lr)
        return torch.optim.AdamW(weights, lr=group.lr, betas=adam.betas, eps=adam.eps, weight_decay=adam.weight_decay)

    def _check(self, state: Mapping[str, Tensor]) -> None:
        shapes = {name.removeprefix("weights/"): t.shape for name, t in state.items() if name.startswith("weights/")}
        if shapes != {name: weight.shape for name, weight in self._weights.items()}:
            raise WeightsMismatchError(
                f"the saved training state has {len(shapes)} trained weights, and not the {len(self._weights)} of this "
                "model; it belongs to another model or to other `tune` settings"
            )
