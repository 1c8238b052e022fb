"""A thousand texts of 5.5 KB in one batch, beside the loop that parses, splits and embeds them.

From the upload to the last document that is ready, on all processors. Both embed on all of them.
"""

from collections.abc import Iterator

from tests.benchmarks.platform import running_platform
from tests.benchmarks.records import Conditions, Measurement
from tests.evaluation.bare_loop import Bare, bare_loop
from tests.evaluation.ingestion_speed import Ingested, ingest

_DOCUMENTS = 1000
_MOST_ROUNDS = 4  # a round takes minutes
_PER_MINUTE_GOAL, _RATIO_GOAL = 600.0, 1.3


class NotReady(Exception):
    """Documents of a batch failed."""


def measure(conditions: Conditions) -> Iterator[Measurement]:
    """Measure both in turns, without a warm-up: every run of either starts a process anyway."""
    batches: list[Ingested] = []
    loops: list[Bare] = []
    with running_platform() as platform:
        code_port = int(platform.environment["DATA_CODE_PORT"])
        for _ in range(min(conditions.rounds, _MOST_ROUNDS)):
            loops.append(bare_loop(_DOCUMENTS))
            batches.append(ingest(platform.base_url, _DOCUMENTS, code_port))
            if batches[-1].ready < _DOCUMENTS:
                raise NotReady(f"{_DOCUMENTS - batches[-1].ready} of {_DOCUMENTS} documents")
    yield from _measurements(batches, loops)


def _measurements(batches: list[Ingested], loops: list[Bare]) -> Iterator[Measurement]:
    rates, bare_rates = (tuple(one.per_minute for one in each) for each in (batches, loops))
    costs, bare_costs = (tuple(one.cpu_ms for one in each) for each in (batches, loops))
    ratios = tuple(cost / bare for cost, bare in zip(costs, bare_costs, strict=True))
    rate, bare_rate = "ingestion.rate", "ingestion.bare.rate"
    cost, bare_cost = "ingestion.cpu", "ingestion.bare.cpu"
    unit = "documents/min"
    yield Measurement(rate, unit, rates, "higher", (bare_rate,), _PER_MINUTE_GOAL)
    yield Measurement(bare_rate, unit, bare_rates, "higher")
    yield Measurement(cost, "CPU-ms/document", costs, "lower", (bare_cost,))
    yield Measurement(bare_cost, "CPU-ms/document", bare_costs, "lower")
    yield Measurement("ingestion.cpu_of_bare", "x", ratios, "lower", goal=_RATIO_GOAL)
    for kind in sorted(batches[0].peak_bytes):
        peaks = tuple(each.peak_bytes[kind] / 1e6 for each in batches)
        yield Measurement(f"ingestion.peak.{kind.replace(' ', '_')}", "MB", peaks, "lower")
