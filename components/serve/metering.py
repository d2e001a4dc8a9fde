"""Figures of the service for Prometheus."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from components.serve.following import ModelSource

BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)


class Metering:
    """Counters of one service."""

    def __init__(self, source: ModelSource) -> None:
        """Start at 0."""
        self._registry = registry = CollectorRegistry()
        self._requests = Counter("mobanet_requests", "Requests", ("route", "status"), registry=registry)
        self._seconds = Histogram(
            "mobanet_request_seconds", "Time of a request", ("route",), buckets=BUCKETS_S, registry=registry
        )
        self.pixels = Counter("mobanet_pixels", "Classified pixels", registry=registry)
        self.in_flight = Gauge("mobanet_requests_in_flight", "Requests that are read or computed", registry=registry)
        registry.register(_SourceFigures(source))

    def request(self, route: str, status: int, seconds: float) -> None:
        """Count a request; status 0: the client got no answer."""
        self._requests.labels(route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def text(self) -> bytes:
        """All figures in Prometheus' text format."""
        return generate_latest(self._registry)


class _SourceFigures:
    """Figures of the model, read when they are asked for."""

    def __init__(self, source: ModelSource) -> None:
        self._source = source

    def collect(self) -> Iterator[Metric]:
        """The current model, exchanges and failed tries."""
        info = GaugeMetricFamily(
            "mobanet_model_info", "The current model", labels=("name", "version", "sha256", "package_sha256")
        )
        if (model := self._source.identity) is not None:
            info.add_metric((model.name, model.version, model.sha256, model.package_sha256), 1)
        yield info
        yield CounterMetricFamily("mobanet_model_swaps", "Exchanges of the model", value=self._source.swaps)
        yield CounterMetricFamily("mobanet_model_failures", "Failed looks at the registry", value=self._source.failures)
