"""What the learner needs from an objective, and the one place that lists all there are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from torch import Tensor

from policies.config import ObjectiveConfig
from policies.objectives.dpo import DpoObjective, PairTargets


class Objective(Protocol):
    """A loss on the network's predictions of pairs. Shape letter: B pairs times draws, called items."""

    metric_names: tuple[str, ...]

    def loss(
        self, prediction_chosen_B: Tensor, prediction_rejected_B: Tensor, targets: PairTargets
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Loss (B,) of each item, to be averaged over all items of an update, and `metric_names` as (B,) each."""
        ...


_OBJECTIVES: Mapping[str, type[DpoObjective]] = {"dpo": DpoObjective}


def build_objective(config: ObjectiveConfig) -> Objective:
    """The objective that `config.type` names."""
    return _OBJECTIVES[config.type](config)
