"""Rate limits: what a plan allows, what a request was told, and the headers that say so."""

import math
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from planes.shared.errors import TooManyRequests

_WINDOW_S = 60


class EndpointClass(StrEnum):
    """Calls that share a limit; every call counts against `REQUESTS` too."""

    REQUESTS = "requests"
    CHAT = "chat"
    UPLOADS = "uploads"
    SEARCH = "search"

    @property
    def policies(self) -> tuple["EndpointClass", ...]:
        """The limits that a call of this class counts against."""
        return _POLICIES[self]


_POLICIES: dict[EndpointClass, tuple[EndpointClass, ...]] = {
    **{each: (EndpointClass.REQUESTS, each) for each in EndpointClass},
    EndpointClass.REQUESTS: (EndpointClass.REQUESTS,),
}


@dataclass(frozen=True, slots=True)
class PlanLimits:
    """What a plan allows one user in a minute; the burst is a minute's worth.

    The names are those of the columns of `plans`. Each limit is 1 or more.
    """

    requests_per_minute: int
    chat_requests_per_minute: int
    upload_requests_per_minute: int
    search_requests_per_minute: int

    def of(self, endpoint: EndpointClass) -> int:
        """Return the limit of one class of calls."""
        match endpoint:
            case EndpointClass.CHAT:
                return self.chat_requests_per_minute
            case EndpointClass.UPLOADS:
                return self.upload_requests_per_minute
            case EndpointClass.SEARCH:
                return self.search_requests_per_minute
            case EndpointClass.REQUESTS:
                return self.requests_per_minute


class Rate(NamedTuple):
    """Where somebody stands with one limit after a request."""

    policy: str
    limit: int
    remaining: int
    reset_s: float
    retry_after_s: float


@dataclass(frozen=True, slots=True)
class Rates:
    """Where somebody stands with each limit that a request counted against, or did not.

    `history` is that of the Redis that counted; 0: it was this process.
    """

    each: tuple[Rate, ...]
    history: int = 0

    @property
    def is_admitted(self) -> bool:
        """Whether the request may pass: no limit refuses it."""
        return not any(rate.retry_after_s > 0 for rate in self.each)

    def headers(self) -> dict[str, str]:
        """Return `RateLimit` and `RateLimit-Policy` (draft-ietf-httpapi-ratelimit-headers-10)."""
        policies = [f'"{rate.policy}";q={rate.limit};w={_WINDOW_S}' for rate in self.each]
        states = [
            f'"{rate.policy}";r={rate.remaining};t={math.ceil(rate.reset_s)}' for rate in self.each
        ]
        return {"ratelimit-policy": ", ".join(policies), "ratelimit": ", ".join(states)}

    def check(self) -> None:
        """Pass where the request is admitted.

        Raises:
            TooManyRequests: It is not; says which limits refuse it, and when the last of them will
                let one more pass.
        """
        if self.is_admitted:
            return
        refusing = [rate for rate in self.each if rate.retry_after_s > 0]
        allowed = " and ".join(f"{rate.limit} a minute ({rate.policy})" for rate in refusing)
        raise TooManyRequests(
            f"You may send {allowed}. Wait, and send fewer.",
            extensions={"violated-policies": [rate.policy for rate in refusing]},
            retry_after_s=math.ceil(max(rate.retry_after_s for rate in refusing)),
        )


class Backlog(NamedTuple):
    """How far ahead of now a limit is used, and in which history of Redis that was learned."""

    us: int = 0
    history: int = 0


class LocalRates:
    """The same limits inside one process, for as long as Redis does not answer.

    While it does, its answers are noted here: losing it gives nobody a fresh minute.
    """

    def __init__(self, clock: Callable[[], float], *, max_keys: int = 20_000) -> None:
        """Store a clock of seconds that never goes back, and how many limits to remember."""
        self._clock = clock
        self._max_keys = max_keys
        self._due_s: OrderedDict[tuple[Hashable, str], tuple[float, int]] = OrderedDict()

    def take(self, key: Hashable, limits: Iterable[tuple[str, int]]) -> Rates:
        """Count a request where each limit a minute allows it (generic cell rate algorithm).

        Args:
            key: Who asks.
            limits: Name and requests a minute of each limit.
        """
        now = self._clock()
        found = [(name, limit, self._backlog_s(key, name, now)) for name, limit in limits]
        waits = [backlog + _WINDOW_S / limit - _WINDOW_S for _, limit, backlog in found]
        is_admitted = all(
            wait <= _WINDOW_S / limit / 1000  # rounding
            for wait, (_, limit, _) in zip(waits, found, strict=True)
        )
        rates = []
        for (name, limit, backlog), wait in zip(found, waits, strict=True):
            interval = _WINDOW_S / limit
            due = backlog + interval if is_admitted else backlog
            remaining = max(0, math.floor((_WINDOW_S - due) / interval + 0.001))
            refused_s = 0 if wait <= interval / 1000 else wait
            rates.append(Rate(name, limit, remaining, due, refused_s))
        answer = Rates(tuple(rates))
        if is_admitted:
            self.note(key, answer)
        return answer

    def note(self, key: Hashable, rates: Rates) -> None:
        """Remember where somebody stands."""
        now, history = self._clock(), rates.history
        for policy, _, _, reset_s, _ in rates.each:
            limit = key, policy
            self._due_s[limit] = now + reset_s, history
            self._due_s.move_to_end(limit)
        while len(self._due_s) > self._max_keys:
            self._due_s.popitem(last=False)

    def backlogs(
        self, key: Hashable, policies: Iterable[EndpointClass]
    ) -> dict[EndpointClass, Backlog]:
        """Return what is known of each limit of somebody."""
        now = self._clock()
        known = {}
        for name in policies:
            due, history = self._due_s.get((key, name), (now, 0))
            known[name] = Backlog(int(max(due - now, 0.0) * 1e6), history)
        return known

    def _backlog_s(self, key: Hashable, name: str, now: float) -> float:
        due, _ = self._due_s.get((key, name), (now, 0))
        return max(due - now, 0.0)
