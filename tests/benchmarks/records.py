"""What a part of the benchmarks yields, and how it stands on the terminal.

A part is a module of this package, or a package in it, with

    def measure(conditions: Conditions) -> Iterator[Measurement]: ...

and its name in `tests.benchmarks.parts`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from rich.table import Table

from services.cli.benchmark_results import Measurement, PartResults, figure
from tests.benchmarks.pinning import Cores

__all__ = ["Conditions", "Measurement", "in_turns", "table"]

Figure = TypeVar("Figure")
"""What a round measures: a sample, or several that belong together."""


@dataclass(frozen=True, slots=True)
class Conditions:
    """How a part measures.

    Attributes:
        cores: Where what is measured runs, and where what asks it.
        rounds: How many samples each measurement wants; a part that needs minutes for one may take
            fewer.
    """

    cores: Cores
    rounds: int


def in_turns(
    rounds: int, works: Mapping[str, Callable[[], Figure]]
) -> dict[str, tuple[Figure, ...]]:
    """Call all works in turns, so that what else the machine does meets each alike.

    Each is called once more before, to be warm. Returns what they returned, by name, in order.
    """
    for work in works.values():
        work()
    samples: dict[str, list[Figure]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            samples[name].append(work())
    return {name: tuple(figures) for name, figures in samples.items()}


def table(part: PartResults) -> Table:
    """Return a part's figures: median, interquartile range, goal, ratios to what stands beside."""
    by_name = {each.name: each for each in part.measurements}
    shown = Table("measurement", "median", "spread", "unit", "goal", "beside", box=None)
    for each in part.measurements:
        beside = (
            f"{each.median / by_name[other].median:.2f} x {_difference(other, each.name)}"
            for other in each.beside
        )
        shown.add_row(
            each.name,
            figure(each.median),
            f"{each.spread:.1%} of {len(each.samples)}",
            each.unit,
            _goal(each),
            ", ".join(beside),
        )
    return shown


def _difference(name: str, other: str) -> str:
    """Return what only the first of two dotted names has."""
    shared = other.split(".")
    return ".".join(word for word in name.split(".") if word not in shared) or name


def _goal(each: Measurement) -> str:
    if each.goal is None:
        return ""
    sign = "≥" if each.better == "higher" else "≤"
    colour, word = ("green", "reached") if each.has_reached_goal else ("red", "missed")
    return f"{sign} {figure(each.goal)} [{colour}]{word}[/]"
