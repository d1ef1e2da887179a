"""What /metrics shows. No label ever comes from a request's text, so that the number of series stays small."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, generate_latest

from services.gateway.model_metrics import ModelMetrics
from services.gateway.tallies import CounterTally, HistogramTally
from services.scoring.model import Models

_LATENCIES = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"})


class Metrics:
    """Counters of one app, in a registry of their own."""

    def __init__(self, models: Models) -> None:
        registry = self.registry = CollectorRegistry()
        self._requests = CounterTally(
            "onlinevpo_http_requests", "Requests answered.", ("route", "method", "status"), registry=registry
        )
        self._seconds = HistogramTally(
            "onlinevpo_http_request_seconds", "Time until a request was answered.", ("route",),
            bounds=_LATENCIES, registry=registry,
        )  # fmt: skip
        self._items = CounterTally(
            "onlinevpo_items", "Items by what became of them: scored, or the code of their problem.",
            ("model", "outcome"), registry=registry,
        )  # fmt: skip
        self._decodes = CounterTally(
            "onlinevpo_videos", "Videos by what decoding gave: decoded, or the code of the refusal.", ("outcome",),
            registry=registry,
        )  # fmt: skip
        self._inference = HistogramTally(
            "onlinevpo_inference_seconds", "Time of the batch that an item was in.", ("model",), bounds=_LATENCIES,
            registry=registry,
        )  # fmt: skip
        self._queue = HistogramTally(
            "onlinevpo_queue_seconds", "Time that an item waited for its batch.", ("model",), bounds=_LATENCIES,
            registry=registry,
        )  # fmt: skip
        registry.register(ModelMetrics(models))

    def request(self, route: str, method: str, status: int, seconds: float) -> None:
        self._requests.inc(route, method if method in _METHODS else "other", str(status))
        self._seconds.observe(seconds, route)

    def item(self, model: str, outcome: str, *, queue_ms: float = 0.0, inference_ms: float = 0.0) -> None:
        """An item that has its result; `outcome` is `scored` or the code of a problem."""
        self._items.inc(model, outcome)
        if inference_ms:
            self._inference.observe(inference_ms / 1000, model)
            self._queue.observe(queue_ms / 1000, model)

    def video(self, outcome: str) -> None:
        """A video that was decoded, or not: `decoded` or a refusal's code."""
        self._decodes.inc(outcome)

    def text(self) -> bytes:
        """All of it, in Prometheus' text format."""
        return generate_latest(self.registry)
