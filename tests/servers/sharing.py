"""Which tests one process of pytest-xdist runs: those of a file, and all of a costly server."""

from typing import Any

import pytest
from xdist.scheduler import LoadFileScheduling

# Cassandra takes 25 s of a core to start, and 0.9 GB: these share one.
_OF_CASSANDRA = frozenset(
    {
        "tests/contract/test_chat_log.py",
        "tests/integration/gateway/test_chat_log_in_a_cluster.py",
        "tests/integration/stores/test_chat_log_away.py",
        "tests/integration/stores/test_chat_log_move.py",
        "tests/integration/stores/test_cql_schema.py",
    }
)


class _FileOrServer(LoadFileScheduling):
    def _split_scope(self, nodeid: str) -> str:
        file: str = super()._split_scope(nodeid)
        return "cassandra" if file in _OF_CASSANDRA else file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadFileScheduling | None:
    """Return the order of work of `--dist loadfile`."""
    return _FileOrServer(config, log) if config.getoption("dist") == "loadfile" else None
