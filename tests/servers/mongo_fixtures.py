"""Servers of MongoDB's protocol for tests: given, MongoDB in a container, or FerretDB."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient

from services.embedded.ports import free_port
from services.embedded.postgres import Postgres
from services.embedded.schema import create_database, owner_connection
from tests.servers import docker, ferretdb
from tests.servers.ferretdb import FerretServer
from tests.servers.matrix import ran
from tests.servers.mongo_search import SearchServer


@pytest.fixture(scope="session")
def mongo_container() -> Iterator[str]:
    """The URL of MongoDB with its search, in a container."""
    with docker.container("mongodb", 27017) as address:
        yield f"mongodb://{address}/?directConnection=true"


@pytest.fixture(scope="session")
def mongod_container() -> Iterator[str]:
    """The URL of MongoDB alone, of the same image."""
    alone = ["--entrypoint", "mongod", "--no-healthcheck"]
    with docker.container("mongodb", 27017, options=alone, arguments=["--bind_ip_all"]) as address:
        yield f"mongodb://{address}/"


@pytest.fixture(scope="session")
def ferretdb_url(request: pytest.FixtureRequest, server_folder: Path) -> Iterator[str]:
    """The URL of a FerretDB."""
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
def mongo_url(request: pytest.FixtureRequest) -> str:
    """The URL of a server of MongoDB's protocol without search."""
    if given := os.environ.get("TEST_MONGO_URL"):
        url, source = given, "TEST_MONGO_URL"
    elif docker.engine_runs():
        url, source = request.getfixturevalue("mongod_container"), "Docker"
    else:
        url, source = request.getfixturevalue("ferretdb_url"), "built by Go"
    ran(request.config, "mongo", f"{_told(url)} ({source})")
    return url


@pytest.fixture(scope="session")
def mongo_search_url(request: pytest.FixtureRequest) -> str:
    """The URL of a server with MongoDB's search; a double stands in where there is none."""
    if given := os.environ.get("TEST_MONGO_SEARCH_URL"):
        url, told = given, f"{_told(given)} (TEST_MONGO_SEARCH_URL)"
    elif docker.engine_runs() and "TEST_MONGO_URL" not in os.environ:
        url = request.getfixturevalue("mongo_container")
        told = f"{_told(url)} (Docker)"
    else:
        url = request.getfixturevalue("mongo_search_double")
        told = f"a double of its search before {_told(request.getfixturevalue('mongo_url'))}"
    ran(request.config, "mongo-search", told)
    return url


@pytest.fixture(scope="session")
def mongo_search_double(mongo_url: str, server_folder: Path) -> Iterator[str]:
    """The URL of the double of MongoDB's search, in front of a server without."""
    server = SearchServer(server_folder / "mongo_search", free_port(), mongo_url)
    server.start()
    try:
        server.wait_until_open()
        yield server.url
    finally:
        server.end()


def _told(url: str) -> str:
    """Return what a server says it is."""
    with MongoClient[dict[str, Any]](url) as client:
        told = client.server_info()
    ferret = told.get("ferretdbVersion") or told.get("ferretdb", {}).get("version")
    if ferret == "unknown":  # as it is built here
        ferret = ferretdb.VERSION
    return f"FerretDB {ferret}" if ferret else f"MongoDB {told['version']}"
