"""What the gateway counts about itself, in Prometheus' terms."""

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from planes.shared.wire import CacheLookup


class GatewayMetrics:
    """The gateway's metrics in a registry of its own."""

    def __init__(self) -> None:
        """Register every metric."""
        self.registry = CollectorRegistry()
        self._of_route: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}
        self._of_answer: dict[tuple[str, str], tuple[Counter, Counter, Counter]] = {}
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
        key = method, route, status
        if key not in self._of_route:  # which is quicker than to ask for labels each time
            self._of_route[key] = (
                self._requests.labels(method, route, str(status)),
                self._seconds.labels(method, route),
            )
        requests, seconds = self._of_route[key]
        requests.inc()
        seconds.observe(elapsed_s)

    def count_lookups(self, lookups: Iterable[CacheLookup]) -> None:
        """Count what caches were asked; the hit rate is the share of `outcome="hit"`."""
        for lookup in lookups:
            self._cache_lookups.labels(lookup.cache, "hit" if lookup.is_hit else "miss").inc()

    def count_answer(self, finish_reason: str, model: str, tokens: tuple[int, int]) -> None:
        """Count one settled answer with its (prompt, completion) tokens."""
        key = finish_reason, model
        if key not in self._of_answer:
            self._of_answer[key] = (
                self.answers.labels(finish_reason, model),
                self.tokens.labels("prompt", model),
                self.tokens.labels("completion", model),
            )
        answers, prompt, completion = self._of_answer[key]
        answers.inc()
        prompt.inc(tokens[0])
        completion.inc(tokens[1])
