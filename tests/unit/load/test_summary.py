"""The figures of a load test, from what locust writes."""

import csv
import json
from pathlib import Path

import pytest

from tests.load.processors import Look
from tests.load.summary import Summary, cpu_ms_per_request, read_causes, read_routes


def summary(
    *, requests: int = 20_000, failures: int = 0, differences: tuple[str, ...] = ()
) -> Summary:
    return Summary(
        users=1000,
        think_s=20,
        requests=requests,
        failures=failures,
        errors=failures / max(1, requests),
        requests_per_s=50,
        routes=[],
        cpu_ms_per_request={},
        answers=5000,
        differences=differences,
        causes={},
        machine={},
    )


def test_percentiles_are_those_of_the_histogram(tmp_path: Path) -> None:
    entry = {
        "method": "POST",
        "name": "/chat",
        "num_requests": 100,
        "num_failures": 1,
        "response_times": {"10": 50, "20": 44, "300": 5, "4000": 1},
    }
    path = tmp_path / "locust.json"
    path.write_text(json.dumps([entry]))
    (route,) = read_routes(path, seconds=50)
    assert (route.p50_ms, route.p95_ms, route.p99_ms) == (10, 300, 300)
    assert (route.requests, route.failures, route.requests_per_s) == (100, 1, 2)


def test_causes_of_failures_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "locust_failures.csv"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["Method", "Name", "Error", "Occurrences"])
        writer.writeheader()
        writer.writerow({"Method": "POST", "Name": "/chat", "Error": "503: no", "Occurrences": 3})
    assert read_causes(path) == {"POST /chat: 503: no": 3}


def test_processor_time_is_shared_by_all_requests() -> None:
    looks = [Look(0.0, {}), Look(2.0, {"gateway": 0.5}), Look(4.0, {"gateway": 1.0, "redis": 0.1})]
    assert cpu_ms_per_request(looks, 100) == {"gateway": 10.0, "redis": 1.0}


@pytest.mark.parametrize(
    ("measured", "is_good"),
    [
        (summary(), True),
        (summary(failures=2), True),
        (summary(failures=3), False),
        (summary(differences=("one",)), False),
        (summary(requests=0), False),
    ],
)
def test_one_difference_or_three_failures_in_20000_are_too_many(
    measured: Summary, is_good: bool
) -> None:
    assert measured.is_good is is_good
