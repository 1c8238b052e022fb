"""Which tests one process of pytest-xdist runs: those of a file, and those of a costly server.

    @pytest.mark.xdist_group("cassandra")

keeps the tests of several files in one process, so that its server is started once: Cassandra takes
25 s of a core and 0.9 GB. It works with `--dist loadgroup`, where others stay with their file.
"""

from typing import Any

import pytest
from xdist.scheduler import LoadGroupScheduling


class _FileOrGroup(LoadGroupScheduling):
    def _split_scope(self, nodeid: str) -> str:
        group: str = super()._split_scope(nodeid)
        return nodeid.split("::", 1)[0] if group == nodeid else group


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadGroupScheduling | None:
    """Return the order of work of `--dist loadgroup`."""
    return _FileOrGroup(config, log) if config.getoption("dist") == "loadgroup" else None
