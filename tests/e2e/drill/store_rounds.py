"""A round of strikes at the stores: from a platform with nothing under way to another one."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

from tests.e2e.conftest import RunningPlatform
from tests.e2e.drill.books import Books
from tests.e2e.drill.rounds import Drill, End
from tests.e2e.drill.strikes import Cell, Strike, all_served, struck
from tests.servers.traffic import Traffic, Visitor, register

_KINDS = ("login", "me", "chat", "stream", "upload", "ready")
_PAUSE_S = 1.5


@dataclass(frozen=True, slots=True)
class StoreOutcome:
    """What the strikes of a round did, how it ended, and all that was wrong."""

    cells: list[Cell]
    end: End
    answers: int
    documents: int
    faults: list[str]


def run(
    drill: Drill, platform: RunningPlatform, seed: str, strikes: Sequence[Strike]
) -> StoreOutcome:
    """Do one round: work, strikes under traffic, wait, look at everything."""
    before = drill.begin(seed)
    visitor, cells = asyncio.run(_under_strikes(platform, strikes))
    end = drill.end(before, others=[visitor.tenant_id])
    with Books(drill.records, platform.base_url, visitor) as books:
        faults = [*(fault for cell in cells for fault in cell.faults), *end.faults, *books.faults()]
    return StoreOutcome(cells, end, len(visitor.answers), len(visitor.documents), faults)


async def _under_strikes(
    platform: RunningPlatform, strikes: Sequence[Strike]
) -> tuple[Visitor, list[Cell]]:
    assert platform.stores is not None
    servers = platform.stores.servers
    visitor = await register(platform.base_url)
    traffic = Traffic(dict.fromkeys(_KINDS, visitor), pause_s=_PAUSE_S)
    traffic.start()
    try:
        await all_served(traffic, time.monotonic())
        cells = [await struck(servers[one.store], one, traffic) for one in strikes]
    finally:
        await traffic.stop()
        await visitor.http.aclose()
    return visitor, cells
