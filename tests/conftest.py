"""Real servers for tests: an embedded PostgreSQL and Redis, started once where a test asks."""

import asyncio
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from uuid import uuid4

import hypothesis
import pytest
from sqlalchemy import text

from planes.shared.stores import migrations
from services.embedded.accounts import identity, unprivileged_account
from services.embedded.ports import free_port
from services.embedded.postgres import OWNER, SERVICE_ROLES, Postgres
from services.embedded.redis import Redis
from services.embedded.schema import allow_login, owner_connection
from tests.servers.cql_fixtures import (
    cassandra_server,
    cql_values,
    own_cql_values,
    scylla_container,
)
from tests.servers.matrix import pytest_runtest_makereport, pytest_terminal_summary, ran
from tests.servers.mongo_fixtures import (
    ferretdb_url,
    mongo_container,
    mongo_search_double,
    mongo_search_url,
    mongo_url,
    mongod_container,
)
from tests.servers.qdrant_fixtures import qdrant_container, qdrant_engine, qdrant_url
from tests.servers.s3_fixtures import s3_container, s3_url, s3_values
from tests.servers.sharing import pytest_xdist_make_scheduler

__all__ = [  # fixtures and hooks of their own modules
    "cassandra_server",
    "cql_values",
    "ferretdb_url",
    "mongo_container",
    "mongo_search_double",
    "mongo_search_url",
    "mongo_url",
    "mongod_container",
    "own_cql_values",
    "pytest_runtest_makereport",
    "pytest_terminal_summary",
    "pytest_xdist_make_scheduler",
    "qdrant_container",
    "qdrant_engine",
    "qdrant_url",
    "s3_container",
    "s3_url",
    "s3_values",
    "scylla_container",
]

_PASSWORD = "test-password"

hypothesis.settings.register_profile("untimed", deadline=None)  # a pause of the machine is no flaw
hypothesis.settings.load_profile("untimed")


def _wait_until_ready(
    process: subprocess.Popen[bytes], is_ready: Callable[[], Awaitable[bool]]
) -> None:
    async def poll() -> None:
        async with asyncio.timeout(30):
            while not await is_ready():
                assert process.poll() is None, f"{process.args} ended with {process.returncode}"
                await asyncio.sleep(0.05)

    asyncio.run(poll())


def _stop(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    process.send_signal(number)
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@pytest.fixture(scope="session")
def server_folder() -> Iterator[Path]:
    """A folder that `nobody` can reach, which pytest's own are not."""
    folder = Path(tempfile.mkdtemp(prefix="polyplane-test-"))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def postgres(server_folder: Path, request: pytest.FixtureRequest) -> Iterator[Postgres]:
    """A running PostgreSQL with a migrated template database."""
    server = Postgres(server_folder / "postgres", port=free_port(), owner_password=_PASSWORD)
    server.prepare()
    with (server_folder / "postgres.log").open("wb") as log:
        process = subprocess.Popen(
            [*server.command(), "-c", "fsync=off"],
            cwd=server.folder,
            env=server.environment(),
            **identity(unprivileged_account()),
            stdout=log,
            stderr=log,
        )
    try:
        _wait_until_ready(process, server.is_ready)
        make_template(server)
        ran(request.config, "postgres", told_by(server))
        yield server
    finally:
        _stop(process, signal.SIGINT)


def told_by(server: Postgres) -> str:
    """Return what a running PostgreSQL says it is."""
    with owner_connection(server.url("postgres")) as connection:
        version = connection.execute(text("SHOW server_version")).scalar_one()
    return f"PostgreSQL {version} (from its wheel)"


def make_template(server: Postgres) -> None:
    """Make the database that those of the tests are copies of, and let the services log in."""
    with owner_connection(server.url("postgres")) as connection:
        connection.execute(text("CREATE DATABASE migrated"))
    migrations.upgrade(server.url("migrated"))
    with owner_connection(server.url("migrated")) as connection:
        for role in SERVICE_ROLES:
            allow_login(connection, role, _PASSWORD)


@pytest.fixture(scope="session")
def postgres_server(postgres: Postgres) -> str:
    """The superuser's URL of a running PostgreSQL."""
    return postgres.url("postgres")


@pytest.fixture
def database_urls(postgres: Postgres) -> Iterator[dict[str, str]]:
    """URLs of a fresh migrated database, by who logs in: admin, gateway, serving, data."""
    name = f"test_{uuid4().hex}"
    with owner_connection(postgres.url("postgres")) as connection:
        connection.execute(text(f"CREATE DATABASE {name} TEMPLATE migrated STRATEGY file_copy"))
    urls = {
        role.removeprefix("polyplane_"): postgres.url(name, role=role) for role in SERVICE_ROLES
    }
    yield {"admin": postgres.url(name, role=OWNER), **urls}
    with owner_connection(postgres.url("postgres")) as connection:
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))


@pytest.fixture(scope="session")
def redis_server(server_folder: Path) -> Iterator[Redis]:
    """A running Redis."""
    server = Redis(
        server_folder / "redis",
        port=free_port(),
        password=_PASSWORD,
        serving_password=_PASSWORD,
        data_password=_PASSWORD,
    )
    server.prepare()
    with (server_folder / "redis.log").open("wb") as log:
        process = subprocess.Popen(
            server.command(),
            cwd=server.folder,
            env={**os.environ, **server.environment()},
            stdout=log,
            stderr=log,
        )
    try:
        _wait_until_ready(process, server.is_ready)
        yield server
    finally:
        _stop(process, signal.SIGTERM)


@pytest.fixture(scope="session")
def redis_url(redis_server: Redis) -> str:
    """The URL of a running Redis, with its password."""
    return redis_server.url()
