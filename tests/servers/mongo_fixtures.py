"""Servers of MongoDB's protocol for tests: FerretDB, and the double of MongoDB's search."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.embedded.postgres import Postgres
from services.embedded.schema import create_database, owner_connection
from tests.servers import ferretdb
from tests.servers.ferretdb import FerretServer
from tests.servers.mongo_search import SearchServer
from tests.servers.ports import free_port


@pytest.fixture(scope="session")
def mongo_url(request: pytest.FixtureRequest, server_folder: Path) -> Iterator[str]:
    """The URL of a MongoDB server, from which no search is asked; FerretDB unless one is given."""
    if given := os.environ.get("TEST_MONGO_URL"):
        yield given
        return
    if reason := ferretdb.missing():
        pytest.skip(reason)
    ferretdb.build()
    postgres: Postgres = request.getfixturevalue("postgres")
    with owner_connection(postgres.url("postgres")) as connection:
        create_database(connection, "ferretdb")
    server = FerretServer(server_folder / "ferretdb", free_port(), postgres.url("ferretdb"))
    server.start()
    try:
        server.wait_until_open()
        yield server.url
    finally:
        server.end()


@pytest.fixture(scope="session")
def mongo_search_url(request: pytest.FixtureRequest, server_folder: Path) -> Iterator[str]:
    """The URL of a server with MongoDB's search: a double in front, unless a real one is given."""
    if given := os.environ.get("TEST_MONGO_SEARCH_URL"):
        yield given
        return
    behind: str = request.getfixturevalue("mongo_url")
    server = SearchServer(server_folder / "mongo_search", free_port(), behind)
    server.start()
    try:
        server.wait_until_open()
        yield server.url
    finally:
        server.end()
