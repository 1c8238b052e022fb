"""A load test in figures."""

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.load.processors import Look

FIRST_TEXT = "first text"
"""The kind of what is no request."""

MOST_ERRORS = 1e-4
"""The share of requests that may fail."""


@dataclass(frozen=True, slots=True)
class Route:
    """What one kind of request took, in milliseconds; `FIRST_TEXT` is a kind of its own."""

    kind: str
    name: str
    requests: int
    failures: int
    requests_per_s: float
    p50_ms: float
    p95_ms: float
    p99_ms: float


@dataclass(frozen=True, slots=True)
class Summary:
    """All of it.

    Attributes:
        think_s: The mean pause of a person between two requests.
        errors: The share of requests that failed.
        cpu_ms_per_request: By kind of process, idle work included.
        answers: How many arrived whole.
        differences: Between answers, usage, ledger and chat log.
        causes: Of failures, with how often each was, as locust counts them.
        machine: What it ran on, the load generator too.
    """

    users: int
    think_s: float
    requests: int
    failures: int
    errors: float
    requests_per_s: float
    routes: Sequence[Route]
    cpu_ms_per_request: Mapping[str, float]
    answers: int
    differences: Sequence[str]
    causes: Mapping[str, int]
    machine: Mapping[str, str]

    @property
    def is_good(self) -> bool:
        """Whether hardly anything failed, and the books agree."""
        return self.requests > 0 and self.errors <= MOST_ERRORS and not self.differences

    def write(self, path: Path) -> None:
        """Write JSON."""
        path.write_text(json.dumps(asdict(self), indent=2) + "\n", "utf-8")


def read_routes(path: Path, *, seconds: float) -> Iterator[Route]:
    """Yield what locust's `--json-file` says of each kind of request, by route.

    Its latencies are rounded to two digits.

    Args:
        path: The file.
        seconds: How long the test took.
    """
    entries = json.loads(path.read_text("utf-8"))
    for entry in sorted(entries, key=lambda entry: (entry["name"], entry["method"])):
        latencies = {float(ms): count for ms, count in entry["response_times"].items()}
        yield Route(
            kind=entry["method"],
            name=entry["name"],
            requests=entry["num_requests"],
            failures=entry["num_failures"],
            requests_per_s=entry["num_requests"] / seconds,
            p50_ms=_percentile(latencies, 0.5),
            p95_ms=_percentile(latencies, 0.95),
            p99_ms=_percentile(latencies, 0.99),
        )


def read_causes(path: Path) -> dict[str, int]:
    """Return what locust's `_failures.csv` says of failures: their routes and causes, counted."""
    with path.open(encoding="utf-8", newline="") as file:
        return {
            f"{row['Method']} {row['Name']}: {row['Error']}": int(row["Occurrences"])
            for row in csv.DictReader(file)
        }


def _percentile(latencies: Mapping[float, int], share: float) -> float:
    """Return the least latency that at least this share of the requests did not exceed."""
    wanted, counted = share * sum(latencies.values()), 0
    for ms, count in sorted(latencies.items()):
        counted += count
        if counted >= wanted:
            return ms
    return 0.0


def cpu_ms_per_request(looks: Sequence[Look], requests: int) -> dict[str, float]:
    """Return what each kind of process used, divided by all requests."""
    used = looks[-1].cpu_s
    return {kind: round(1e3 * seconds / max(1, requests), 2) for kind, seconds in used.items()}
