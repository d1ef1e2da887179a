"""How a reward model is deployed: what a service's configuration says about one model, without the service."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cluster.factories import Named
from policies.config import RewardModelConfig

if TYPE_CHECKING:
    from policies.rewards.model import RewardModel


@dataclass(frozen=True, slots=True, kw_only=True)
class Autoscaling:
    """Between which numbers of replicas the load decides, and how long it must last."""

    min_replicas: int = 1
    max_replicas: int
    upscale_delay_s: float = 10
    downscale_delay_s: float = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """One reward model and its replicas.

    Args:
        name: what callers call it, and the name of its Serve application.
        build: makes the model in the replica's own process from this value; a module-level function by name, so that
            nobody else imports it.
        stall_s: a forward that takes longer has hung: its replica is replaced and its callers are sent elsewhere.
    """

    name: str
    reward: RewardModelConfig
    replicas: int = 1
    autoscaling: Autoscaling | None = None
    cpus_per_replica: float = 1
    gpus_per_replica: float = 0
    torch_threads: int = 1
    callers_weight: float = 1
    runs_weight: float = 1
    stall_s: float = 300
    build: Callable[[Deployment], RewardModel] = field(default=Named("cluster.serving.loading", "reward_model"))

    @property
    def most_replicas(self) -> int:
        """As many as there can be."""
        return self.replicas if self.autoscaling is None else self.autoscaling.max_replicas
