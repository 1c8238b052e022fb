"""Whether what comes in has changed: the population stability index of two distributions.

The index is the sum of (p - q) ln(p / q) over the buckets: the symmetric Kullback-Leibler
divergence (Jeffreys 1946, https://doi.org/10.1098/rspa.1946.0056), known by that name from credit
scoring (Siddiqi, Credit Risk Scorecards, 2006), whose custom it is to call 0.1 a small and 0.25 a
large shift. Of N and M documents that come from one distribution over B buckets it is about
(B - 1)(1/N + 1/M) (Yurdakul 2018, https://scholarworks.wmich.edu/dissertations/3208), so that few
documents prove nothing.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from planes.data.pipeline.plots import bar

_LEAST_SHARE = 1e-4  # of a bucket that is empty on one side


@dataclass(frozen=True, slots=True)
class Drift:
    """How the recent documents differ from those before.

    Attributes:
        recent: Recent documents by bucket.
        before: Those they are compared with.
        psi: The population stability index; None where either side has too few.
    """

    recent: Mapping[str, int]
    before: Mapping[str, int]
    psi: float | None

    def table(self, label: str) -> str:
        """Return both distributions side by side, as a Markdown table with bars."""
        rows = [f"| {label} | recent | | before | |", "|---|--:|---|--:|---|"]
        for bucket in _ordered(self.recent.keys() | self.before.keys()):
            sides = (_cell(side, bucket) for side in (self.recent, self.before))
            rows.append(f"| {bucket or '-'} | {' | '.join(sides)} |")
        return "\n".join(rows)


def drift(recent: Mapping[str, int], before: Mapping[str, int], *, least: int) -> Drift:
    """Compare two distributions of at least `least` documents each."""
    if min(sum(recent.values()), sum(before.values())) < least:
        return Drift(recent, before, None)
    return Drift(recent, before, population_stability_index(recent, before))


def population_stability_index(recent: Mapping[str, int], before: Mapping[str, int]) -> float:
    """Return the index of two distributions, neither of them empty; 0 where they are the same."""
    total = 0.0
    for bucket in recent.keys() | before.keys():
        p, q = (max(_share(side, bucket), _LEAST_SHARE) for side in (recent, before))
        total += (p - q) * math.log(p / q)
    return total


def _share(side: Mapping[str, int], bucket: str) -> float:
    return side.get(bucket, 0) / max(1, sum(side.values()))


def _cell(side: Mapping[str, int], bucket: str) -> str:
    share = _share(side, bucket)
    return f"{share:.1%} | {bar(share)}"


def _ordered(buckets: set[str]) -> list[str]:
    return sorted(buckets, key=lambda bucket: (int(bucket) if bucket.isdigit() else 0, bucket))
