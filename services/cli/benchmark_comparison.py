"""Whether a figure changed between two measurements, or only scattered.

The ratio is the median of all ratios of a later sample to an earlier one, and its interval the
distribution-free one that belongs to the Mann-Whitney test (Hodges and Lehmann 1963; Hollander and
Wolfe, Nonparametric Statistical Methods, 4.3): it is exact for the handful of rounds that a
benchmark has, and needs no assumption on how they scatter.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate
from math import inf
from statistics import median
from typing import Literal

from services.cli.benchmark_results import Measurement

_CONFIDENCE = 0.95
Verdict = Literal["better", "worse", "same", "open"]


@dataclass(frozen=True, slots=True)
class Comparison:
    """How often one measurement goes into a later one.

    Attributes:
        earlier: What it is measured by.
        later: What is compared.
        ratio: Later to earlier: 2 means twice as much, which may be better or worse.
        low: The least ratio that the samples bear out, at 95 % confidence; 0 if they are too few.
        high: The greatest; infinite if they are too few.
        tolerance: The share by which two runs of the same code may differ.
    """

    earlier: Measurement
    later: Measurement
    ratio: float
    low: float
    high: float
    tolerance: float

    @property
    def verdict(self) -> Verdict:
        """What is certain: a change beyond the tolerance, none beyond it, or neither."""
        below, above = self.high < 1 - self.tolerance, self.low > 1 + self.tolerance
        if below or above:
            return "better" if above == (self.later.better == "higher") else "worse"
        is_within = self.low >= 1 - self.tolerance and self.high <= 1 + self.tolerance
        return "same" if is_within else "open"


def compare(earlier: Measurement, later: Measurement, *, tolerance: float) -> Comparison:
    """Compare two measurements of one name and unit."""
    ratios = sorted(after / before for before in earlier.samples for after in later.samples)
    outside = _outside(len(earlier.samples), len(later.samples))
    low, high = (ratios[outside - 1], ratios[-outside]) if outside else (0.0, inf)
    return Comparison(earlier, later, median(ratios), low, high, tolerance)


def compare_all(
    earlier: Mapping[str, Measurement], later: Mapping[str, Measurement], *, tolerance: float
) -> Iterator[Comparison]:
    """Compare what both have, in the later one's order."""
    for name, measurement in later.items():
        before = earlier.get(name)
        if before is not None and before.unit == measurement.unit:
            yield compare(before, measurement, tolerance=tolerance)


def _outside(first: int, second: int) -> int:
    """Return which ordered ratio, counted from either end, bounds the interval; 0 for none.

    The largest k for which P(U < k) is at most half of what the confidence leaves.
    """
    counts = _orders(first, second)
    allowed = (1 - _CONFIDENCE) / 2 * sum(counts)
    return sum(total <= allowed for total in accumulate(counts))


def _orders(first: int, second: int) -> list[int]:
    """Return in how many orders of two samples the statistic U is 0, 1, … first x second.

    These are the coefficients of the Gaussian binomial, the product of (1 - q^(second+i)) / (1 -
    q^i) for i from 1 to first.
    """
    size = first * second + 1
    counts = [1] + [0] * (size - 1)
    for i in range(1, first + 1):
        for place in range(size - 1, second + i - 1, -1):
            counts[place] -= counts[place - second - i]
        for place in range(i, size):
            counts[place] += counts[place - i]
    return counts
