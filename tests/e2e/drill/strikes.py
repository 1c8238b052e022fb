"""Stores are killed and frozen in turn, while somebody chats and uploads without pause."""

import asyncio
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass

from tests.e2e.stores import Store
from tests.servers.traffic import Sample, Traffic

STORES = ("postgres", "redis", "s3", "cassandra", "mongo")
LONGEST_S = 75.0
"""Longer than any answer may take, its deadlines added up; what takes longer hangs."""

_SERVED_WITHIN_S = 180
_AFTER_S = (0.5, 3.0)
_AWAY_S = (3.0, 8.0)
_MAY_FAIL = {429, 503}


@dataclass(frozen=True, slots=True)
class Strike:
    """A store is killed or frozen, `after_s` after all was well, for at least `away_s`."""

    store: str
    is_kill: bool
    after_s: float
    away_s: float

    @property
    def how(self) -> str:
        """In words."""
        return "killed" if self.is_kill else "frozen"


@dataclass(frozen=True, slots=True)
class Cell:
    """What a strike did.

    Attributes:
        strike: Which.
        away_s: From the strike until the store took connections again.
        served_s: From then until every kind of request was served.
        samples: Requests that ended between the strike and the end of its effects.
    """

    strike: Strike
    away_s: float
    served_s: float
    samples: Sequence[Sample]

    @property
    def faults(self) -> list[str]:
        """Name the requests that were not answered as they must be."""
        name = f"{self.strike.store} {self.strike.how}"
        wrong = [
            one
            for one in self.samples
            if one.flaw
            or one.whole_s > LONGEST_S
            or (one.status >= 300 and one.status not in _MAY_FAIL)
        ]
        return [f"{name}: {one}" for one in wrong]

    @property
    def longest_s(self) -> float:
        """The longest request."""
        return max((one.whole_s for one in self.samples), default=0.0)

    @property
    def refused(self) -> list[str]:
        """The kinds of requests of which some were refused."""
        return sorted({one.kind for one in self.samples if one.status == 503})


def plan(seed: int, rounds: int) -> list[list[Strike]]:
    """Return for each round a strike at every store, in an order of its own.

    What is killed in one round is frozen in the next.
    """
    source = random.Random(seed)  # noqa: S311 - nothing secret
    is_killed_first = {name: source.random() < 1 / 2 for name in STORES}
    return [
        [
            Strike(
                name,
                is_killed_first[name] ^ bool(number % 2),
                source.uniform(*_AFTER_S),
                source.uniform(*_AWAY_S),
            )
            for name in source.sample(STORES, len(STORES))
        ]
        for number in range(rounds)
    ]


async def struck(store: Store, strike: Strike, traffic: Traffic) -> Cell:
    """Strike a store while traffic runs, bring it back, and wait until all are served again."""
    await asyncio.sleep(strike.after_s)
    began = time.monotonic()
    await asyncio.to_thread(store.kill if strike.is_kill else store.freeze)
    await asyncio.sleep(strike.away_s)
    await asyncio.to_thread(store.start if strike.is_kill else store.go_on)
    await asyncio.to_thread(store.wait_until_open)
    back = time.monotonic()
    served_s = await all_served(traffic, back)
    samples = [one for one in traffic.since(began) if one.started < back + served_s]
    return Cell(strike, back - began, served_s, samples)


async def all_served(traffic: Traffic, since: float) -> float:
    """Wait until every kind of request succeeds again; return how long that took, in seconds."""
    while missing := traffic.kinds - _served(traffic, since):
        assert time.monotonic() < since + _SERVED_WITHIN_S, f"{missing} are not served again"
        await asyncio.sleep(0.05)
    return time.monotonic() - since


def _served(traffic: Traffic, since: float) -> set[str]:
    samples = [one for one in traffic.since(since) if one.started > since and not one.flaw]
    return {one.kind for one in samples if one.status < 300}


def table(cells: Sequence[Cell]) -> str:
    """Return what was measured as a table in Markdown."""
    lines = [
        "| store | fault | away | all served after | longest answer | refused |",
        "|---" * 6 + "|",
    ]
    for one in cells:
        refused = ", ".join(one.refused) or "nothing"
        times = f"{one.away_s:.1f} s | {one.served_s:.1f} s | {one.longest_s:.1f} s"
        lines.append(f"| {one.strike.store} | {one.strike.how} | {times} | {refused} |")
    return "\n".join(lines)
