"""What /metrics shows. No label ever comes from a request's text, so that the number of series stays small."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

from services.gateway.model_metrics import ModelMetrics
from services.scoring.model import Models

_LATENCIES = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"})


class Metrics:
    """Counters of one app, in a registry of their own."""

    def __init__(self, models: Models) -> None:
        self.registry = CollectorRegistry()
        labels = ("route", "method", "status")
        self._requests = Counter("onlinevpo_http_requests", "Requests answered.", labels, registry=self.registry)
        self._seconds = Histogram(
            "onlinevpo_http_request_seconds", "Time until a request was answered.", ("route",),
            buckets=_LATENCIES, registry=self.registry,
        )  # fmt: skip
        self._items = Counter(
            "onlinevpo_items", "Items by what became of them: scored, or the code of their problem.",
            ("model", "outcome"), registry=self.registry,
        )  # fmt: skip
        self._decodes = Counter(
            "onlinevpo_videos", "Videos by what decoding gave: decoded, or the code of the refusal.", ("outcome",),
            registry=self.registry,
        )  # fmt: skip
        self._inference = Histogram(
            "onlinevpo_inference_seconds", "Time of the batch that an item was in.", ("model",), buckets=_LATENCIES,
            registry=self.registry,
        )  # fmt: skip
        self._queue = Histogram(
            "onlinevpo_queue_seconds", "Time that an item waited for its batch.", ("model",), buckets=_LATENCIES,
            registry=self.registry,
        )  # fmt: skip
        self.registry.register(ModelMetrics(models))
        # looking a child up by its labels takes longer than counting
        self._known_requests: dict[tuple[str, str, int], Counter] = {}
        self._known: dict[tuple[object, ...], Counter | Histogram] = {}

    def request(self, route: str, method: str, status: int, seconds: float) -> None:
        labels = (route, method if method in _METHODS else "other", status)
        if (counter := self._known_requests.get(labels)) is None:
            counter = self._known_requests[labels] = self._requests.labels(*map(str, labels))
        counter.inc()
        self._histogram(self._seconds, route).observe(seconds)

    def item(self, model: str, outcome: str, *, queue_ms: float = 0.0, inference_ms: float = 0.0) -> None:
        """An item that has its result; `outcome` is `scored` or the code of a problem."""
        self._counter(self._items, model, outcome).inc()
        if inference_ms:
            self._histogram(self._inference, model).observe(inference_ms / 1000)
            self._histogram(self._queue, model).observe(queue_ms / 1000)

    def video(self, outcome: str) -> None:
        """A video that was decoded, or not: `decoded` or a refusal's code."""
        self._counter(self._decodes, outcome).inc()

    def text(self) -> bytes:
        """All of it, in Prometheus' text format."""
        return generate_latest(self.registry)

    def _counter(self, of: Counter, *labels: str) -> Counter:
        known = self._known.get((of, *labels))
        if known is None:
            known = self._known[of, *labels] = of.labels(*labels)
        assert isinstance(known, Counter)
        return known

    def _histogram(self, of: Histogram, *labels: str) -> Histogram:
        known = self._known.get((of, *labels))
        if known is None:
            known = self._known[of, *labels] = of.labels(*labels)
        assert isinstance(known, Histogram)
        return known
