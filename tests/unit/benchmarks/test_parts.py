"""Which parts run, that works take turns, and what the table says."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from services.cli.benchmark_results import PartResults, read_results
from tests.benchmarks import parts
from tests.benchmarks.__main__ import main
from tests.benchmarks.pinning import Cores, pin, pinned
from tests.benchmarks.records import Conditions, Measurement, in_turns, table


def test_without_names_every_part_runs_but_those_on_request() -> None:
    assert parts.chosen("") == parts.NAMES
    assert not set(parts.NAMES) & set(parts.ON_REQUEST)


def test_named_parts_run_in_their_own_order() -> None:
    first, second = parts.NAMES[:2]
    assert parts.chosen(f" {second}, {first},") == (first, second)
    assert parts.chosen("peers") == ("peers",)


def test_an_unknown_part_is_named_with_the_known_ones() -> None:
    with pytest.raises(parts.NoSuchPart, match=r"no part tea; there are: .*chat_log"):
        parts.chosen("chat_log,tea")


def test_works_take_turns_after_a_warm_up() -> None:
    called: list[str] = []

    def work(name: str) -> int:
        called.append(name)
        return len(called)

    samples = in_turns(2, {"ours": lambda: work("ours"), "bare": lambda: work("bare")})
    assert called == ["ours", "bare"] * 3
    assert samples == {"ours": (3, 5), "bare": (4, 6)}


def test_the_table_tells_ratio_goal_and_spread() -> None:
    measured = (
        Measurement("a.rate", "1/s", (900.0, 1000.0, 1100.0), "higher", ("a.bare.rate",), 800.0),
        Measurement("a.bare.rate", "1/s", (2000.0,), "higher"),
        Measurement("a.p99", "ms", (4.0,), "lower", goal=3.0),
    )
    part = PartResults("2026-11-01T00:00:00+00:00", "abc", 1.0, 0.1, {}, measured)
    console = Console(width=120)
    with console.capture() as captured:
        console.print(table(part))
    rate, bare, p99 = captured.get().splitlines()[1:]
    assert rate.split() == [
        *("a.rate", "1,000", "10.0%", "of", "3", "1/s", "≥", "800", "reached", "0.50", "x", "bare")
    ]
    assert bare.split()[:2] == ["a.bare.rate", "2,000"]
    assert p99.split()[-3:] == ["≤", "3.00", "missed"]


@pytest.fixture
def usable() -> Iterator[set[int]]:
    before = os.sched_getaffinity(0)
    yield before
    os.sched_setaffinity(0, before)


def test_processors_are_divided_and_processes_stay_on_them(usable: set[int]) -> None:
    cores = Cores.of_this_process()
    assert cores.all == usable
    assert len(usable) == 1 or not cores.measured & cores.load
    pin(0, cores.measured)
    assert os.sched_getaffinity(0) == cores.measured
    one = min(cores.load)
    assert pinned(frozenset({one}), "wrk", "-t1") == [
        "taskset",
        "--cpu-list",
        str(one),
        "wrk",
        "-t1",
    ]


@pytest.mark.usefixtures("usable")
def test_a_part_that_fails_keeps_no_other_from_being_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measure(name: str, conditions: Conditions) -> Iterator[Measurement]:
        yield Measurement(f"{name}.rate", "1/s", (1.0,) * conditions.rounds, "higher")
        if name == "retrieval":
            raise SystemExit("no answer")

    monkeypatch.setattr(parts, "measure", measure)
    monkeypatch.setenv("PARTS", "gateway,retrieval,chat_log")
    with pytest.raises(SystemExit, match=r"Not measured, see above: retrieval\."):
        main(tmp_path / "results.json")
    assert list(read_results(tmp_path / "results.json").parts) == ["gateway", "chat_log"]
