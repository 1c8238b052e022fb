"""The contract matrix counts the tests of every worker, and says why some were skipped."""

import pytest

pytest_plugins = ["pytester"]

_CONFTEST = """
import pytest
from tests.servers.matrix import pytest_runtest_makereport, pytest_terminal_summary, ran

def pytest_configure(config):
    config.addinivalue_line("markers", "contract(port, adapter, server): a cell")

@pytest.fixture(params=[
    pytest.param(name, marks=pytest.mark.contract("chunks", name, name)) for name in ("one", "two")
])
def store(request):
    if request.param == "two":
        pytest.skip("no Two: it is not to be had")
    ran(request.config, "one", "One 1.0 (given)")
"""
_TESTS = """
import pytest

def test_a(store): pass
def test_b(store): pass
def test_c(store): assert False
def test_of_no_port(): pass
"""


@pytest.fixture(autouse=True)
def few_plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")


@pytest.mark.parametrize("workers", [[], ["-p", "xdist", "-n", "2"]])
def test_each_adapter_is_counted_with_the_server_that_ran(
    pytester: pytest.Pytester, workers: list[str]
) -> None:
    pytester.makeconftest(_CONFTEST)
    skipped = "import pytest; pytest.importorskip('nothing_of_that_name')"
    pytester.makepyfile(test_one=_TESTS, test_other=_TESTS, test_skipped=skipped)
    printed = pytester.runpytest_subprocess(*workers).stdout
    printed.fnmatch_lines(
        [
            "*contract matrix*",
            "| port | adapter | server | passed | failed | skipped |",
            "| chunks | one | One 1.0 (given) | 4 | 2 | 0 |",
            "| chunks | two | none | 0 | 0 | 6 |",
            "skipped: chunks, two: 6 x no Two: it is not to be had",
        ]
    )


def test_where_no_port_was_tested_nothing_is_printed(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(_CONFTEST)
    pytester.makepyfile("def test_of_no_port(): pass")
    printed = pytester.runpytest_subprocess().stdout
    printed.no_fnmatch_line("*contract matrix*")
