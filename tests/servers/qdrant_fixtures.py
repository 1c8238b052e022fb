"""A Qdrant for tests that neither kill nor freeze it."""

import os
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from services.embedded.ports import free_port
from tests.servers import docker, qdrant
from tests.servers.matrix import ran
from tests.servers.qdrant import QdrantServer


@pytest.fixture(scope="session")
def qdrant_url(request: pytest.FixtureRequest) -> str:
    """The address of a running Qdrant: given, in a container, or its engine behind our server."""
    if given := os.environ.get("TEST_QDRANT_URL"):
        url, source = given, "TEST_QDRANT_URL"
    elif docker.engine_runs():
        url, source = request.getfixturevalue("qdrant_container"), "Docker"
    else:
        url = request.getfixturevalue("qdrant_engine")
        ran(request.config, "qdrant", f"qdrant-edge-py {qdrant.VERSION}, behind a server of ours")
        return url
    version = httpx.get(url, headers={"api-key": qdrant.API_KEY}, timeout=30).json()["version"]
    ran(request.config, "qdrant", f"Qdrant {version} ({source})")
    return url


@pytest.fixture(scope="session")
def qdrant_container() -> Iterator[str]:
    """The address of a Qdrant in a container."""
    key = ["--env", f"QDRANT__SERVICE__API_KEY={qdrant.API_KEY}"]
    with docker.container("qdrant", 6333, options=key) as address:
        qdrant.wait_until_it_answers(f"http://{address}")
        yield f"http://{address}"


@pytest.fixture(scope="session")
def qdrant_engine(server_folder: Path) -> Iterator[str]:
    """The address of Qdrant's engine behind a server of our own."""
    if reason := qdrant.missing():
        pytest.skip(reason)
    server = QdrantServer(server_folder / "qdrant", free_port())
    server.start()
    try:
        server.wait_until_open()
        yield server.url
    finally:
        server.end()
