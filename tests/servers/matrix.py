"""The contract matrix: which adapter of which port ran on which server, printed at the end.

A test of a port's contract carries `pytest.mark.contract(port, adapter, server)`. The fixture of
that server tells with `ran` what it is. `tests/conftest.py` offers the hooks; they work under
pytest-xdist, because what a report carries travels with it.
"""

from collections import Counter, defaultdict
from collections.abc import Generator, Iterable

import pytest

CONTRACT = "contract"
NONE = "none"
_OUTCOMES = ("passed", "failed", "error", "skipped")
_HEAD = ("port", "adapter", "server", "passed", "failed", "skipped")
_SERVERS = pytest.StashKey[dict[str, str]]()
Row = tuple[str, str, str]


def ran(config: pytest.Config, server: str, told: str) -> None:
    """Note what a server says of itself: product, version, and where it is from."""
    config.stash.setdefault(_SERVERS, {})[server] = told


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Note on a test's report to which cell of the matrix it belongs."""
    report = yield
    mark = item.get_closest_marker(CONTRACT)
    if mark is not None and (report.when == "call" or not report.passed):
        port, adapter, server = mark.args
        told = item.config.stash.get(_SERVERS, {}).get(server, NONE)
        report.user_properties.append((CONTRACT, [port, adapter, told]))
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the matrix, where a test of it ran; what was skipped and why stands below it."""
    counts, reasons = _counted(terminalreporter.stats)
    if not counts:
        return
    terminalreporter.section("contract matrix")
    for line in table(counts):
        terminalreporter.write_line(line)
    for (port, adapter, _), of_row in sorted(reasons.items()):
        for reason, count in sorted(of_row.items()):
            terminalreporter.write_line(f"skipped: {port}, {adapter}: {count} x {reason}")


def table(counts: dict[Row, Counter[str]]) -> list[str]:
    """Return the lines of a Markdown table."""
    rows = [
        (*row, of["passed"], of["failed"] + of["error"], of["skipped"])
        for row, of in sorted(counts.items())
    ]
    return [f"| {' | '.join(map(str, row))} |" for row in (_HEAD, ["---"] * len(_HEAD), *rows)]


def _counted(
    stats: dict[str, list[pytest.TestReport | pytest.CollectReport]],
) -> tuple[dict[Row, Counter[str]], dict[Row, Counter[str]]]:
    """Return how many tests ended how, and why they were skipped, for each row."""
    counts: dict[Row, Counter[str]] = defaultdict(Counter)
    reasons: dict[Row, Counter[str]] = defaultdict(Counter)
    for outcome in _OUTCOMES:
        for report in stats.get(outcome, []):
            if isinstance(report, pytest.CollectReport):  # a whole module that is skipped
                continue
            for row in _rows(report.user_properties):
                counts[row][outcome] += 1
                if outcome == "skipped":
                    reasons[row][_reason(report)] += 1
    return counts, reasons


def _rows(properties: Iterable[tuple[str, object]]) -> Iterable[Row]:
    for name, value in properties:
        if name == CONTRACT and isinstance(value, list):
            yield (value[0], value[1], value[2])


def _reason(report: pytest.TestReport) -> str:
    """Return why a test was skipped: the third of what pytest tells of the place."""
    told = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    return told.removeprefix("Skipped: ")
