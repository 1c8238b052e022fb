"""A CQL cluster with a migrated keyspace, once a test session; `tests/conftest.py` offers them."""

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from planes.shared.errors import Unavailable
from planes.shared.stores.chat_log_settings import ChatLogSettings, cql_options, migrate_chat_log
from planes.shared.stores.cql_cluster import READ, WRITE, CqlRefused, connected
from services.embedded.ports import free_port
from tests.servers import cassandra, docker
from tests.servers.cassandra import CassandraServer
from tests.servers.matrix import ran

_READY_S = 300


@pytest.fixture(scope="session")
def cassandra_server(server_folder: Path) -> Iterator[CassandraServer]:
    """A Cassandra of the tests' own, which they may freeze and kill."""
    if reason := cassandra.missing():
        pytest.skip(reason)
    cassandra.fetch()
    server = CassandraServer(
        server_folder / "cassandra", port=free_port(), storage_port=free_port()
    )
    server.make_certificate()
    server.start()
    try:
        server.wait_until_open()
        yield server
    finally:
        server.kill()  # nobody needs its data


@pytest.fixture(scope="session")
def own_cql_values(
    cassandra_server: CassandraServer, request: pytest.FixtureRequest
) -> dict[str, object]:
    """Settings of a chat log in the tests' own Cassandra."""
    values = {**_of_node(cassandra_server.address), "cql_keyspace": f"test_{uuid4().hex[:20]}"}
    migrate_when_ready(cql_settings(values))
    ran(request.config, "cassandra", f"{_told(cql_settings(values))} (from Maven)")
    return values


@pytest.fixture(scope="session")
def scylla_container() -> Iterator[str]:
    """The address of a ScyllaDB in a container, with passwords and without TLS."""
    command = "--smp 1 --memory 1G --overprovisioned 1 --developer-mode 1 --commitlog-sync batch"
    accounts = ["--authenticator", "PasswordAuthenticator"]
    with docker.container("scylla", 9042, arguments=[*command.split(), *accounts]) as address:
        yield address


@pytest.fixture(scope="session")
def cql_values(request: pytest.FixtureRequest) -> Iterator[dict[str, object]]:
    """Settings of a chat log: in a given cluster, a ScyllaDB in a container, or our Cassandra."""
    keyspace = {"cql_keyspace": f"test_{uuid4().hex[:20]}"}
    if hosts := os.environ.get("TEST_CQL_HOSTS"):
        values, source = {**_given(hosts), **keyspace}, "TEST_CQL_HOSTS"
    elif docker.engine_runs():
        values = {**_of_node(request.getfixturevalue("scylla_container")), **keyspace}
        source = "Docker"
    else:
        values, source = request.getfixturevalue("own_cql_values"), "from Maven"
    settings = cql_settings(values)
    migrate_when_ready(settings)
    ran(request.config, "cql", f"{_told(settings)} ({source})")
    yield values
    if source == "TEST_CQL_HOSTS":
        drop(settings)


def _given(hosts: str) -> dict[str, object]:
    named = {
        f"cql_{name.lower()}": value
        for name in ("USERNAME", "PASSWORD", "LOCAL_DC", "TLS_CA")
        if (value := os.environ.get(f"TEST_CQL_{name}"))
    }
    centre = named.get("cql_local_dc", "datacenter1")
    plain = {"cql_allow_plain": True, "cql_replication": {centre: 1}}
    return {"cql_hosts": hosts, **plain, **named}


def _of_node(address: str) -> dict[str, object]:
    return {
        "cql_hosts": address,
        "cql_username": cassandra.USERNAME,
        "cql_password": cassandra.PASSWORD,
        "cql_replication": {"datacenter1": 1},
        "cql_deadline_s": 15,  # of a slow machine; tests of outages set their own
    }


def _told(settings: ChatLogSettings) -> str:
    """Return what the cluster says it is."""
    options = cql_options(settings)
    cluster = options.cluster()
    try:
        session = connected(cluster, options.local_dc)
        if "scylla_local" in cluster.metadata.keyspaces["system"].tables:
            cql, product = "SELECT version FROM system.versions", "ScyllaDB"
        else:
            cql, product = "SELECT release_version FROM system.local", "Apache Cassandra"
        version = session.execute(cql, timeout=60, execution_profile=READ).one()[0]
    finally:
        cluster.shutdown()
    return f"{product} {version}"


def migrate_when_ready(settings: ChatLogSettings) -> None:
    """Migrate; a new server makes its first account a little after its start."""
    end = time.monotonic() + _READY_S
    while time.monotonic() < end:
        with contextlib.suppress(CqlRefused, Unavailable):
            migrate_chat_log(settings)
            return
        time.sleep(0.5)
    migrate_chat_log(settings)


def cql_settings(values: dict[str, object], **others: object) -> ChatLogSettings:
    """Return settings of a chat log and nothing else."""
    return ChatLogSettings.model_validate({**values, **others})


def drop(settings: ChatLogSettings) -> None:
    """Remove a keyspace."""
    options = cql_options(settings)
    cluster = options.cluster()
    try:
        session = connected(cluster, options.local_dc)
        cql = f"DROP KEYSPACE IF EXISTS {options.keyspace}"
        session.execute(cql, timeout=60, execution_profile=WRITE)
    finally:
        cluster.shutdown()
