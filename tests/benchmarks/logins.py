"""What a storm of sign-ins (argon2id) does to another endpoint, beside the same without a storm.

`GET /auth/me` at 40 requests a second, which is far from busy. The storm is a process of low
priority on the same processors, as its callers would not sit on this machine.
"""

import asyncio
from collections.abc import Iterator

from tests.benchmarks.platform import running_platform
from tests.benchmarks.records import Conditions, Measurement
from tests.evaluation.login_storm import Turn, p99, turns

_GOAL = 2.0


def measure(conditions: Conditions) -> Iterator[Measurement]:
    """Measure calm and storm in turns."""
    with running_platform(GATEWAY_TRUSTED_PROXIES="127.0.0.1/32") as platform:
        measured = asyncio.run(_turns(platform.base_url, conditions.rounds))
    calm = tuple(1e3 * p99(turn.calm_s) for turn in measured)
    stormy = tuple(1e3 * p99(turn.stormy_s) for turn in measured)
    ratios = tuple(after / before for before, after in zip(calm, stormy, strict=True))
    yield Measurement("logins.storm.p99", "ms", stormy, "lower", beside=("logins.calm.p99",))
    yield Measurement("logins.calm.p99", "ms", calm, "lower")
    yield Measurement("logins.storm_of_calm", "x", ratios, "lower", goal=_GOAL)


async def _turns(address: str, number: int) -> list[Turn]:
    return [turn async for turn in turns(address, number)]
