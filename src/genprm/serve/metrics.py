"""The service's counts and the requests' times in Prometheus' format."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from genprm.serve.service import RewardService

_BUCKETS = (0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 120, 300, 600)
_COUNTS = {
    "calls": "Calls of the reward service.",
    "verifications": "Verifications that were begun.",
    "finished": "Verifications that ended with a result.",
    "cancelled": "Verifications that nobody wanted any more.",
    "broken": "Verifications that ended in an unexpected exception.",
    "joined": "Calls that joined a running verification.",
    "recent": "Calls that were answered from a finished verification.",
    "refused": "Calls that were refused because of overload.",
    "deadlines": "Calls whose deadline passed.",
}


class Metrics:
    """A registry of its own, so that several apps can live in one process."""

    def __init__(self, service: RewardService) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_ServiceCollector(service))
        self._requests = Counter(
            "genprm_http_requests", "Requests.", ["path", "status", "key"], registry=self._registry
        )
        self._seconds = Histogram(
            "genprm_http_seconds", "Time to the end of the answer.", ["path"], buckets=_BUCKETS,
            registry=self._registry,
        )  # fmt: skip
        self._unknown = Counter(
            "genprm_unknown", "Solutions without a score.", ["dialect", "kind"], registry=self._registry
        )

    def request(self, path: str, status: int, key: str, seconds: float) -> None:
        """A request has ended; `path` is one of the app's own."""
        self._requests.labels(path, str(status), key).inc()
        self._seconds.labels(path).observe(seconds)

    def unknown(self, dialect: str, kind: str) -> None:
        """A solution got no score."""
        self._unknown.labels(dialect, kind).inc()

    def text(self) -> bytes:
        """Everything, in the text format."""
        return generate_latest(self._registry)


class _ServiceCollector(Collector):
    """Reads the service when it is asked, so that nothing is counted twice."""

    def __init__(self, service: RewardService) -> None:
        self._service = service

    def collect(self) -> Iterator[Metric]:
        """The service's state now."""
        service, counts = self._service, self._service.counts
        yield GaugeMetricFamily("genprm_running", "Verifications in work.", service.running)
        yield GaugeMetricFamily("genprm_waiting", "Verifications that wait.", service.waiting)
        for name, text in _COUNTS.items():
            yield CounterMetricFamily(f"genprm_{name}", text, getattr(counts, name))
        verdicts = CounterMetricFamily("genprm_verdicts", "Verdicts on steps.", labels=["status"])
        for status, count in counts.verdicts.items():
            verdicts.add_metric([status], count)
        yield verdicts
        policies = CounterMetricFamily(
            "genprm_policies", "Verifications that a load policy decided.", labels=["policy"]
        )
        for policy, count in counts.policies.items():
            policies.add_metric([policy], count)
        yield policies
        tokens = CounterMetricFamily("genprm_tokens", "Tokens of finished verifications.", labels=["kind"])
        tokens.add_metric(["prompt"], counts.usage.prompt_tokens)
        tokens.add_metric(["completion"], counts.usage.completion_tokens)
        yield tokens
