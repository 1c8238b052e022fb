"""What the gateway counts about itself, in Prometheus' terms."""

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from planes.shared.wire import CacheLookup


class GatewayMetrics:
    """The gateway's metrics in a registry of its own."""

    def __init__(self) -> None:
        """Register every metric."""
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "polyplane_gateway_requests_total",
            "Requests answered",
            ["method", "route", "status"],
            registry=self.registry,
        )
        self._seconds = Histogram(
            "polyplane_gateway_request_seconds",
            "Time to the last byte of an answer",
            ["method", "route"],
            registry=self.registry,
        )
        self.answers = Counter(
            "polyplane_gateway_answers_total",
            "Chat answers by how they ended",
            ["finish_reason", "model"],
            registry=self.registry,
        )
        self.tokens = Counter(
            "polyplane_gateway_tokens_total",
            "Tokens billed",
            ["kind", "model"],
            registry=self.registry,
        )
        self._cache_lookups = Counter(
            "polyplane_serving_cache_lookups_total",
            "What the serving plane's caches said to the questions and searches of this gateway",
            ["cache", "outcome"],
            registry=self.registry,
        )
        self.open_answers = Gauge(
            "polyplane_gateway_open_answers", "Answers under way", registry=self.registry
        )
        self.swept = Counter(
            "polyplane_gateway_swept_reservations_total",
            "Reservations that nobody carried on",
            registry=self.registry,
        )

    def observe(self, method: str, route: str, status: int, elapsed_s: float) -> None:
        """Count one answered request."""
        self._requests.labels(method, route, str(status)).inc()
        self._seconds.labels(method, route).observe(elapsed_s)

    def count_lookups(self, lookups: Iterable[CacheLookup]) -> None:
        """Count what caches were asked; the hit rate is the share of `outcome="hit"`."""
        for lookup in lookups:
            self._cache_lookups.labels(lookup.cache, "hit" if lookup.is_hit else "miss").inc()

    def count_answer(self, finish_reason: str, model: str, tokens: tuple[int, int]) -> None:
        """Count one settled answer with its (prompt, completion) tokens."""
        self.answers.labels(finish_reason, model).inc()
        self.tokens.labels("prompt", model).inc(tokens[0])
        self.tokens.labels("completion", model).inc(tokens[1])
