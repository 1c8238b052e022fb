"""A platform of one's own for a benchmark: embedded, empty, on free ports, gone afterwards."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from tests.e2e.conftest import RunningPlatform, new_platform


@contextmanager
def stopped_platform(**settings: str) -> Iterator[RunningPlatform]:
    """Yield a platform to be started by `command("up")`, with settings by their variables' names.

    What it runs then has ended afterwards, and its data is deleted.
    """
    with tempfile.TemporaryDirectory(
        prefix="polyplane-benchmark-", ignore_cleanup_errors=True
    ) as folder:
        platform = new_platform(Path(folder) / "home")
        platform = replace(platform, environment={**platform.environment, **settings})
        try:
            yield platform
        finally:
            platform.command("reset", "--yes")


@contextmanager
def running_platform(**settings: str) -> Iterator[RunningPlatform]:
    """Yield a platform that is ready, with settings by their variables' names."""
    with stopped_platform(**settings) as platform:
        platform.command("up")
        yield platform
