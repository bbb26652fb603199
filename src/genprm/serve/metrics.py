"""The service's counts and the requests' times in Prometheus' format."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from genprm.serve.chat.metered import MeteredEngine
from genprm.serve.history import History
from genprm.serve.keys import Keys
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
    "late": "Calls whose deadline had passed before anything was begun for them.",
    "deadlines": "Calls whose deadline passed.",
}


class Metrics:
    """A registry of its own, so that several apps can live in one process."""

    def __init__(self, service: RewardService, keys: Keys, history: History | None) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_ServiceCollector(service))
        self._registry.register(_StateCollector(keys, history))
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

        self._searching = Gauge(
            "genprm_searching", "Chats that are being answered.", registry=self._registry
        )
        self._searches = Counter(
            "genprm_searches", "Chats, by how they ended.", ["model", "outcome"], registry=self._registry
        )
        self._policy_tokens = Counter(
            "genprm_policy_tokens", "Tokens of the policy in chats that ended.", ["kind"],
            registry=self._registry,
        )  # fmt: skip
        self._policy_uncounted = Counter(
            "genprm_policy_uncounted_requests",
            "Requests of the policy in chats that ended whose tokens the engine did not count; genprm_policy_tokens has "
            "them in part or not at all.",
            registry=self._registry,
        )
        self._limited = Counter(
            "genprm_limited", "Requests beyond a key's limits.", ["key"], registry=self._registry
        )

    @contextmanager
    def search(self, model: str, policy: MeteredEngine) -> Iterator[Callable[[str], None]]:
        """A context in which a chat is answered; gives what to call with its outcome.

        Without such a call the outcome is `cancelled`, or `failed` if the context ends in an error.
        """
        outcome = "cancelled"

        def ended(how: str) -> None:
            nonlocal outcome
            outcome = how

        self._searching.inc()
        try:
            yield ended
        except Exception:
            outcome = "failed"
            raise
        finally:
            self._searching.dec()
            self._searches.labels(model, outcome).inc()
            self._policy_tokens.labels("prompt").inc(policy.spent.prompt_tokens)
            self._policy_tokens.labels("completion").inc(policy.spent.completion_tokens)
            self._policy_uncounted.inc(policy.spent.uncounted)

    def limited(self, key: str) -> None:
        """A request was refused because its key has no more to use for now."""
        self._limited.labels(key).inc()

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
        tokens = CounterMetricFamily(
            "genprm_tokens", "Tokens of verifications, of cancelled ones up to then.", labels=["kind"]
        )
        tokens.add_metric(["prompt"], counts.usage.prompt_tokens)
        tokens.add_metric(["completion"], counts.usage.completion_tokens)
        yield tokens
        yield CounterMetricFamily(
            "genprm_uncounted_requests",
            "Requests whose tokens the engine did not count; genprm_tokens has them in part or not at all.",
            counts.usage.uncounted,
        )


class _StateCollector(Collector):
    """Reads what the keys and the history count."""

    def __init__(self, keys: Keys, history: History | None) -> None:
        self._keys, self._history = keys, history

    def collect(self) -> Iterator[Metric]:
        """Their state now."""
        reloads = CounterMetricFamily(
            "genprm_key_reloads", "Readings of a changed keys' file.", labels=["outcome"]
        )
        for outcome in ("taken", "refused"):
            reloads.add_metric([outcome], self._keys.reloads[outcome])
        yield reloads
        if self._history is not None:
            yield CounterMetricFamily(
                "genprm_history_lost", "Verifications that the history could not keep.", self._history.lost
            )
