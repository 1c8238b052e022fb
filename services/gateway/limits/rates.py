"""Rate limits: what a plan allows, what a request was told, and the headers that say so."""

import math
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from enum import StrEnum

from planes.shared.errors import TooManyRequests

_WINDOW_S = 60


class EndpointClass(StrEnum):
    """Calls that share a limit."""

    REQUESTS = "requests"
    CHAT = "chat"


@dataclass(frozen=True, slots=True)
class PlanLimits:
    """What a plan allows one user in a minute; the burst is a minute's worth."""

    requests_per_minute: int
    chat_requests_per_minute: int

    def of(self, endpoint: EndpointClass) -> int:
        """Return the limit of one class of calls."""
        if endpoint is EndpointClass.CHAT:
            return self.chat_requests_per_minute
        return self.requests_per_minute


@dataclass(frozen=True, slots=True)
class Rate:
    """Where a user stands with one limit after a request."""

    endpoint: EndpointClass
    limit: int
    remaining: int
    reset_s: float
    retry_after_s: float

    @property
    def is_admitted(self) -> bool:
        """Whether the request may pass."""
        return self.retry_after_s <= 0

    def headers(self) -> dict[str, str]:
        """Return `RateLimit` and `RateLimit-Policy` (draft-ietf-httpapi-ratelimit-headers-10)."""
        return {
            "ratelimit-policy": f'"{self.endpoint}";q={self.limit};w={_WINDOW_S}',
            "ratelimit": f'"{self.endpoint}";r={self.remaining};t={math.ceil(self.reset_s)}',
        }

    def check(self) -> None:
        """Pass where the request is admitted.

        Raises:
            TooManyRequests: It is not; says when one more will be.
        """
        if not self.is_admitted:
            raise TooManyRequests(
                f"Your plan allows {self.limit} of these requests a minute.",
                retry_after_s=math.ceil(self.retry_after_s),
            )


class LocalRates:
    """The same limits inside one process, for as long as Redis does not answer."""

    def __init__(self, clock: Callable[[], float], *, max_keys: int = 10_000) -> None:
        """Store a clock of seconds that never goes back, and how many users to remember."""
        self._clock = clock
        self._max_keys = max_keys
        self._due_s: OrderedDict[Hashable, float] = OrderedDict()

    def take(self, key: Hashable, limit: int, endpoint: EndpointClass) -> Rate:
        """Count a request where `limit` a minute allows it (generic cell rate algorithm)."""
        now = self._clock()
        interval = _WINDOW_S / limit
        due = max(self._due_s.get((key, endpoint), now), now) + interval
        excess = due - now - _WINDOW_S
        if excess > interval / 1000:  # not rounding
            return Rate(endpoint, limit, 0, due - interval - now, excess)
        self._due_s[key, endpoint] = due
        self._due_s.move_to_end((key, endpoint))
        if len(self._due_s) > self._max_keys:
            self._due_s.popitem(last=False)
        remaining = math.floor((_WINDOW_S - (due - now)) / interval + 0.001)
        return Rate(endpoint, limit, remaining, due - now, 0)
