"""What a benchmark measured, as `make benchmark` writes it and `polyplane benchmark` reads it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import floor, isfinite, log10
from pathlib import Path
from statistics import median, quantiles
from typing import Literal

from pydantic import TypeAdapter, ValidationError


class NotResults(Exception):
    """A file does not hold results of a benchmark; the message says why."""


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

    def __post_init__(self) -> None:
        """Refuse figures of which no ratio can be told.

        Raises:
            ValueError: There is no sample, or one is not positive and finite.
        """
        if not self.samples or not all(isfinite(one) and one > 0 for one in self.samples):
            raise ValueError(f"{self.name} needs samples above 0, not {self.samples}")

    @property
    def median(self) -> float:
        """The middle of the samples."""
        return median(self.samples)

    @property
    def spread(self) -> float:
        """The interquartile range as a share of the median; 0 of a single sample."""
        if len(self.samples) == 1:
            return 0.0
        first, _, third = quantiles(self.samples, n=4, method="inclusive")
        return (third - first) / self.median

    @property
    def has_reached_goal(self) -> bool | None:
        """Whether the median is as good as the goal; None without one."""
        if self.goal is None:
            return None
        return self.median >= self.goal if self.better == "higher" else self.median <= self.goal


@dataclass(frozen=True, slots=True)
class PartResults:
    """What one part measured, when, of which code and on what.

    Attributes:
        measured_at: In UTC, by RFC 3339.
        commit: Of the code, with `+` behind it where files differed from it; empty if unknown.
        wall_s: How long all of it took, in seconds.
        load_average: How many processes wanted a processor in the minute before.
        machine: What it ran on, such as `{"processor": …}`.
        measurements: In the order in which they were measured.
    """

    measured_at: str
    commit: str
    wall_s: float
    load_average: float
    machine: Mapping[str, str]
    measurements: tuple[Measurement, ...]

    def contradictions(self) -> Iterator[str]:
        """Name what cannot be: a name twice, or something beside that is not there."""
        by_name = {each.name: each for each in self.measurements}
        if len(by_name) < len(self.measurements):
            yield "two measurements have one name"
        for each in self.measurements:
            for other in each.beside:
                if other not in by_name:
                    yield f"{each.name} stands beside {other}, which was not measured"
                elif by_name[other].unit != each.unit:
                    yield f"{each.name} is in {each.unit}, {other} in {by_name[other].unit}"


@dataclass(frozen=True, slots=True)
class Results:
    """Each part as it was measured last; the parts may be of different days."""

    format: Literal[1]
    parts: Mapping[str, PartResults]

    @property
    def measurements(self) -> dict[str, Measurement]:
        """All measurements by their names."""
        return {each.name: each for part in self.parts.values() for each in part.measurements}


_FILE = TypeAdapter(Results)


def figure(value: float) -> str:
    """Return a positive figure as people read it: three digits that count, thousands by commas."""
    return f"{value:,.{max(0, 2 - floor(log10(value)))}f}"


def read_results(path: Path) -> Results:
    """Read what `write_results` wrote.

    Raises:
        NotResults: The file cannot be read, is something else, or contradicts itself.
    """
    try:
        results = _FILE.validate_json(path.read_bytes())
    except OSError as error:
        raise NotResults(f"{path} cannot be read: {error.strerror}") from error
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"])) or "the file"
        raise NotResults(
            f"{path} does not hold results of make benchmark: {place}: {first['msg']}"
        ) from error
    for name, part in results.parts.items():
        for contradiction in part.contradictions():
            raise NotResults(f"{path}, part {name}: {contradiction}")
    return results


def write_results(path: Path, results: Results) -> None:
    """Replace a file."""
    path.write_bytes(_FILE.dump_json(results, indent=2) + b"\n")
