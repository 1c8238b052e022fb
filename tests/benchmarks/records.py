"""What a part of the benchmarks yields: `measure(conditions)` of a module of this package."""

from dataclasses import dataclass
from typing import Literal

from tests.benchmarks.pinning import Cores


@dataclass(frozen=True, slots=True)
class Measurement:
    """One figure, measured in several rounds.

    Attributes:
        name: What was measured, dotted, beginning with its part: `gateway.chat.rate`.
        unit: Of the samples, such as `requests/s`, `ms` or `MB`.
        samples: One positive figure a round, in order.
        better: Which figures are.
        beside: Names of measurements of the same part and unit that do the same work otherwise, the
            limit (a bare loop on libraries) first.
        goal: What the median should reach, where there is a goal.
    """

    name: str
    unit: str
    samples: tuple[float, ...]
    better: Literal["higher", "lower"]
    beside: tuple[str, ...] = ()
    goal: float | None = None


@dataclass(frozen=True, slots=True)
class Conditions:
    """How a part measures.

    Attributes:
        cores: Where what is measured runs, and where what asks it.
        rounds: How many samples each measurement wants.
    """

    cores: Cores
    rounds: int
