"""What Prometheus reads: counts, times, tokens and money. No label says anything of a patient."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from soma_bench.pipeline.events import Event, StageEnded, StageFailed
from soma_bench.routing.routed import Routed

CONTENT_TYPE = CONTENT_TYPE_LATEST
_FAST = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
_SLOW = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)


class Metrics:
    """The figures of one service, in a registry of its own."""

    def __init__(self) -> None:
        registry = self._registry = CollectorRegistry()
        self._requests = Counter(
            "soma_requests_total",
            "Requests by endpoint and status; 499 is a client that left.",
            ("method", "endpoint", "status"),
            registry=registry,
        )
        self._duration = Histogram(
            "soma_request_seconds",
            "From a request's first byte to the answer's last.",
            ("endpoint",),
            buckets=_SLOW,
            registry=registry,
        )
        self._first = Histogram(
            "soma_first_byte_seconds",
            "From a request's last byte to its answer's first, of a stream to its first event: the"
            " service's own time, waiting for other requests included.",
            ("endpoint",),
            buckets=_FAST,
            registry=registry,
        )
        self.open = Gauge(
            "soma_requests_open",
            "Reports, revisions and talks that are being worked on.",
            registry=registry,
        )
        self.sessions = Gauge("soma_sessions", "Sessions in memory.", registry=registry)
        self._stages = Histogram(
            "soma_stage_seconds",
            "From asking an agent to its answer, fallbacks included, waiting for a machine not.",
            ("agent", "target"),
            buckets=_SLOW,
            registry=registry,
        )
        self._failures = Counter(
            "soma_stage_failures_total",
            "Agents that gave no answer, by the kind of the failure.",
            ("agent", "kind"),
            registry=registry,
        )
        self._fallbacks = Counter(
            "soma_fallbacks_total",
            "Answers from another target than the first.",
            ("agent", "target"),
            registry=registry,
        )
        self._tokens = Counter(
            "soma_tokens_total",
            "Tokens of answered calls; kind is prompt or output.",
            ("agent", "target", "kind"),
            registry=registry,
        )
        self._cost = Counter(
            "soma_cost_usd_total",
            "Price of answered calls whose price is known, in US dollars.",
            ("agent", "target"),
            registry=registry,
        )

    def answered(
        self, method: str, endpoint: str, status: int, *, seconds: float, first_s: float | None
    ) -> None:
        """Count a request.

        Args:
            method: its method.
            endpoint: the route's template, never the path.
            status: the answer's.
            seconds: from its first byte to the last of the answer.
            first_s: from its last byte to the answer's first; None where there was no answer.
        """
        self._requests.labels(method, endpoint, str(status)).inc()
        self._duration.labels(endpoint).observe(seconds)
        if first_s is not None:
            self._first.labels(endpoint).observe(first_s)

    def stage(self, event: Event) -> None:
        """Count what a pipeline's event tells."""
        match event:
            case StageEnded(result=result):
                self.routed(result.routed, result.seconds)
            case StageFailed(agent=agent, kind=kind):
                self._failures.labels(agent, kind).inc()

    def routed(self, routed: Routed, seconds: float) -> None:
        """Count an agent's answer."""
        labels = (routed.agent, str(routed.target))
        self._stages.labels(*labels).observe(seconds)
        if routed.fallback_used:
            self._fallbacks.labels(*labels).inc()
        usage = routed.completion.usage
        for kind, count in (("prompt", usage.prompt_tokens), ("output", usage.output_tokens)):
            if count is not None:
                self._tokens.labels(*labels, kind).inc(count)
        if routed.cost_usd is not None:
            self._cost.labels(*labels).inc(routed.cost_usd)

    def text(self) -> bytes:
        """The figures in Prometheus's text form."""
        return generate_latest(self._registry)
