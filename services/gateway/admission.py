"""How many items the gateway takes on: those that wait for a decoder or a model count, and those that run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from services.scoring.model import QueueFull
from services.serve_config import DeploymentConfig, ServeConfig

RETRY_S = 1.0
_OTHERWISE = DeploymentConfig()


class Admission:
    """The bounds are those of each model's queue."""

    def __init__(self, config: ServeConfig) -> None:
        self._config = config
        self._of_model: Counter[str] = Counter()
        self._of_caller: Counter[tuple[str, str]] = Counter()

    @contextmanager
    def hold(self, model: str, caller: str, items: int) -> Iterator[None]:
        """Room for items of one request, for as long as it lasts.

        A request that is larger than a bound is let in while nothing else counts against that bound.

        Raises:
            QueueFull: there is none; nothing is held.
        """
        bounds = self._config.models.get(model, _OTHERWISE)
        mine, everyones = self._of_caller[model, caller], self._of_model[model]
        if mine and mine + items > bounds.queue_items_per_caller:
            raise QueueFull(retry_after_s=RETRY_S, by_caller=True)
        if everyones and everyones + items > bounds.queue_items:
            raise QueueFull(retry_after_s=RETRY_S, by_caller=False)
        self._of_caller[model, caller] = mine + items
        self._of_model[model] = everyones + items
        try:
            yield
        finally:
            self._of_model[model] -= items
            self._of_caller[model, caller] -= items
            if not self._of_caller[model, caller]:
                del self._of_caller[model, caller]
