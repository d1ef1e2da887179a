"""What models say of themselves when /metrics is asked for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from services.scoring.counters import BatcherCounters
from services.scoring.model import Models

_SIZES = (1, 2, 4, 8, 16, 32, 64, 128)


class ModelMetrics(Collector):
    """Queues, batches, and what was turned away or dropped."""

    def __init__(self, models: Models) -> None:
        self._models = models

    def collect(self) -> Iterable[Metric]:
        queued = GaugeMetricFamily("onlinevpo_queued_items", "Items that wait for a model.", labels=["model"])
        ready = GaugeMetricFamily("onlinevpo_model_ready", "Whether a model could score now.", labels=["model"])
        running = GaugeMetricFamily("onlinevpo_running_batches", "Batches that run.", labels=["model"])
        sizes = HistogramMetricFamily("onlinevpo_batch_items", "Items of the batches that ended.", labels=["model"])
        failed = CounterMetricFamily("onlinevpo_failed_batches", "Batches without an answer.", labels=["model"])
        lost = CounterMetricFamily(
            "onlinevpo_unscored_items", "Items that were turned away or dropped.", labels=["model", "reason"]
        )
        for name in self._models.names:
            if (model := self._models.get(name)) is None:
                continue
            queued.add_metric([name], model.queued)
            ready.add_metric([name], float(model.is_ready))
            counters = getattr(model, "counters", None)
            if isinstance(counters, BatcherCounters):
                running.add_metric([name], counters.running)
                sizes.add_metric([name], _buckets(counters.batch_sizes), counters.items)
                failed.add_metric([name], counters.failed_batches)
                for reason in ("refused_by_caller", "refused_by_queue", "dropped_late", "dropped_cancelled"):
                    lost.add_metric([name, reason], getattr(counters, reason))
        return (queued, ready, running, sizes, failed, lost)


def _buckets(batches: Counter[int]) -> list[tuple[str, float]]:
    """Batches of at most so many items, as a histogram wants them."""
    known = [(f"{size:.1f}", float(sum(batches[found] for found in batches if found <= size))) for size in _SIZES]
    return [*known, ("+Inf", float(batches.total()))]
