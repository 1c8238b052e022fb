"""`polyplane benchmark compare`: changes are told from scatter, and files from other files."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from services.cli.benchmark_comparison import compare
from services.cli.benchmark_results import (
    Measurement,
    PartResults,
    Results,
    read_results,
    write_results,
)
from services.cli.main import app

MACHINE = {"processor": "AMD EPYC", "cores": "2"}
STEADY = (100.0, 101.0, 99.0, 100.5, 99.5)


def rate(*samples: float, name: str = "gateway.chat.rate") -> Measurement:
    return Measurement(name, "requests/s", samples, "higher")


def p99(*samples: float) -> Measurement:
    return Measurement("gateway.chat.p99", "ms", samples, "lower")


def written(path: Path, *measurements: Measurement, machine: dict[str, str] | None = None) -> str:
    part = PartResults(
        "2026-11-01T00:00:00+00:00", "abc", 1.0, 0.1, machine or MACHINE, measurements
    )
    write_results(path, Results(1, {"gateway": part}))
    return str(path)


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["benchmark", "compare", *arguments])
    return result.exit_code, result.output


def times(samples: tuple[float, ...], factor: float) -> tuple[float, ...]:
    return tuple(each * factor for each in samples)


def test_what_is_slower_for_certain_fails(tmp_path: Path) -> None:
    before = written(tmp_path / "a.json", rate(*STEADY))
    after = written(tmp_path / "b.json", rate(*times(STEADY, 0.8)))
    code, output = run(before, after)
    assert code == 1
    assert "gateway.chat.rate" in output
    assert "0.800" in output
    assert "1 worse for certain" in output


def test_a_longer_time_is_worse_and_a_higher_rate_is_better(tmp_path: Path) -> None:
    before = written(tmp_path / "a.json", rate(*STEADY), p99(*STEADY))
    after = written(tmp_path / "b.json", rate(*times(STEADY, 1.5)), p99(*times(STEADY, 1.5)))
    code, output = run(before, after)
    assert code == 1
    rows = {line.split()[0]: line.split()[-1] for line in output.splitlines() if "gateway." in line}
    assert rows == {"gateway.chat.rate": "better", "gateway.chat.p99": "worse"}


def test_what_scatters_as_much_as_it_differs_passes(tmp_path: Path) -> None:
    before = written(tmp_path / "a.json", rate(60, 100, 140, 90, 110))
    after = written(tmp_path / "b.json", rate(50, 80, 120, 70, 100))
    code, output = run(before, after)
    assert code == 0
    assert "open" in output


def test_what_differs_less_than_two_runs_of_the_same_code_may_passes(tmp_path: Path) -> None:
    before = written(tmp_path / "a.json", rate(*STEADY))
    after = written(tmp_path / "b.json", rate(*times(STEADY, 0.97)))
    assert run(before, after)[0] == 0
    assert run(before, after, "--tolerance", "0")[0] == 1


def test_three_rounds_are_too_few_to_be_certain(tmp_path: Path) -> None:
    before = written(tmp_path / "a.json", rate(100, 101, 99))
    after = written(tmp_path / "b.json", rate(10, 11, 9))
    code, output = run(before, after)
    assert code == 0
    assert "too few samples" in output


@pytest.mark.parametrize(
    ("first", "second", "outside"),
    [(4, 4, 1), (5, 5, 3), (8, 8, 14), (10, 10, 24), (5, 7, 6), (20, 20, 128)],
)
def test_the_interval_is_that_of_the_tables(first: int, second: int, outside: int) -> None:
    """Tables of the Mann-Whitney test at .05, two-sided, give the critical U: one less."""
    before = rate(*(1000.0**n for n in range(first)))
    after = rate(*(2.0 * 1000.0**n for n in range(second)))
    compared = compare(before, after, tolerance=0)
    ratios = sorted(b / a for a in before.samples for b in after.samples)
    assert compared.low == ratios[outside - 1]
    assert compared.high == ratios[-outside]


def test_another_machine_and_what_only_one_has_are_told(tmp_path: Path) -> None:
    before = written(tmp_path / "a.json", rate(*STEADY), p99(*STEADY))
    other = {"processor": "Intel Xeon", "cores": "2"}
    after = written(
        tmp_path / "b.json", rate(*STEADY), rate(*STEADY, name="gateway.jwt.rate"), machine=other
    )
    code, output = run(before, after)
    assert code == 0
    assert "processor was 'AMD EPYC' and is 'Intel Xeon'" in output
    assert "only in the earlier results: gateway.chat.p99" in output
    assert "only in the later results: gateway.jwt.rate" in output


def test_a_figure_in_another_unit_is_not_compared(tmp_path: Path) -> None:
    before = written(tmp_path / "a.json", Measurement("a", "s", STEADY, "lower"))
    after = written(tmp_path / "b.json", Measurement("a", "ms", STEADY, "lower"))
    code, output = run(before, after)
    assert code == 2
    assert "no measurement in common" in output


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("not JSON", "Invalid JSON"),
        ("[]", "does not hold results of make benchmark"),
        ('{"format": 2, "parts": {}}', "format: Input should be 1"),
        ('{"format": 1}', "parts: "),
        ('{"format": 1, "parts": {}}', "no measurement in common"),
    ],
)
def test_a_file_of_something_else_is_refused(tmp_path: Path, content: str, told: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(content)
    code, output = run(str(path), str(path))
    assert code == 2
    assert told in " ".join(output.split())


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    code, output = run(str(tmp_path / "a.json"), str(tmp_path / "a.json"))
    assert code == 2
    assert "a.json cannot be read: No such file or directory" in " ".join(output.split())


def test_results_that_contradict_themselves_are_refused(tmp_path: Path) -> None:
    alone = Measurement("a", "s", STEADY, "lower", beside=("b",))
    path = written(tmp_path / "a.json", alone)
    code, output = run(path, path)
    assert code == 2
    assert "part gateway: a stands beside b, which was not measured" in " ".join(output.split())


@pytest.mark.parametrize("samples", [(), (0.0,), (1.0, -1.0), (float("nan"),), (float("inf"),)])
def test_a_measurement_of_which_no_ratio_can_be_told_is_refused(samples: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="samples above 0"):
        rate(*samples)


def test_results_are_read_as_they_were_written(tmp_path: Path) -> None:
    measured = Measurement("a.rate", "1/s", STEADY, "higher", beside=("a.bare",), goal=90.0)
    bare = Measurement("a.bare", "1/s", STEADY, "higher")
    path = Path(written(tmp_path / "a.json", measured, bare))
    results = read_results(path)
    assert results.measurements == {"a.rate": measured, "a.bare": bare}
    assert measured.has_reached_goal
    assert bare.has_reached_goal is None
    assert results.parts["gateway"].machine == MACHINE


def test_median_and_spread_are_those_of_the_samples() -> None:
    assert rate(4, 1, 3, 2, 5).median == 3
    assert rate(4, 1, 3, 2, 5).spread == pytest.approx(2 / 3)
    assert rate(7).spread == 0
