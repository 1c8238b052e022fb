"""A Qdrant for tests that neither kill nor freeze it."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers import qdrant
from tests.servers.ports import free_port
from tests.servers.qdrant import QdrantServer


@pytest.fixture(scope="session")
def qdrant_url(server_folder: Path) -> Iterator[str]:
    """The address of a running Qdrant; our own unless one is given."""
    if given := os.environ.get("TEST_QDRANT_URL"):
        yield given
        return
    if reason := qdrant.missing():
        pytest.skip(reason)
    server = QdrantServer(server_folder / "qdrant", free_port())
    server.start()
    try:
        server.wait_until_open()
        yield server.url
    finally:
        server.end()
