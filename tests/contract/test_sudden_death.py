"""What a store has acknowledged outlives its server, killed in the midst of writes.

The same of Qdrant is in `test_qdrant.py`, and of Cassandra in
`tests/integration/stores/test_chat_log_away.py`.
"""

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text

from planes.shared.errors import Unavailable
from planes.shared.index_ports import ChunkStore
from services.embedded.accounts import identity, unprivileged_account
from services.embedded.ports import free_port
from services.embedded.postgres import OWNER, SERVICE_ROLES, Postgres
from services.embedded.schema import create_database, owner_connection
from tests.conftest import make_template, told_by
from tests.contract.chunk_servers import ChunkServer, PostgresServer
from tests.contract.conftest import ACME, adapter
from tests.contract.mongo import MongoServer
from tests.contract.test_chunk_store import vectors_for, version_of
from tests.servers import ferretdb
from tests.servers.ferretdb import FerretServer
from tests.servers.matrix import ran
from tests.servers.processes import OwnServer

_CHUNKS, _WRITERS, _VERSIONS = 20, 4, 12


class MortalPostgres:
    """A PostgreSQL of this module's own, which writes to the disk as that of a platform does."""

    def __init__(self, folder: Path) -> None:
        """Make its data directory."""
        self.server = Postgres(folder / "mortal", port=free_port(), owner_password="test-password")
        self.server.prepare()
        self.process = OwnServer(
            self.server.command(),
            folder=self.server.folder,
            log=folder / "mortal.log",
            environment=self.server.environment(),
            account=identity(unprivileged_account()),
        )

    async def start(self) -> None:
        """Start it, and wait until it has recovered and takes connections."""
        self.process.start()
        async with asyncio.timeout(60):
            while not await self.server.is_ready():
                await asyncio.sleep(0.05)

    def urls(self) -> dict[str, str]:
        """Make a migrated database, and return its URLs by who logs in."""
        name = f"test_{uuid4().hex}"
        with owner_connection(self.server.url("postgres")) as connection:
            connection.execute(text(f"CREATE DATABASE {name} TEMPLATE migrated STRATEGY file_copy"))
        names = {OWNER: "admin"} | {r: r.removeprefix("polyplane_") for r in SERVICE_ROLES}
        return {as_: self.server.url(name, role=role) for role, as_ in names.items()}


@pytest.fixture(scope="module")
def mortal(server_folder: Path, request: pytest.FixtureRequest) -> Iterator[MortalPostgres]:
    """A running PostgreSQL that may be killed."""
    mortal = MortalPostgres(server_folder)
    asyncio.run(mortal.start())
    make_template(mortal.server)
    ran(request.config, "mortal-postgres", told_by(mortal.server))
    yield mortal
    mortal.process.kill()


@pytest.fixture(scope="module")
def mortal_ferretdb(
    mortal: MortalPostgres, server_folder: Path, request: pytest.FixtureRequest
) -> Iterator[str]:
    """The URL of a FerretDB that keeps everything in that PostgreSQL."""
    if reason := ferretdb.missing():
        pytest.skip(reason)
    ferretdb.build()
    with owner_connection(mortal.server.url("postgres")) as connection:
        create_database(connection, "ferretdb")
    url = mortal.server.url("ferretdb")
    server = FerretServer(server_folder / "mortal-ferretdb", free_port(), url)
    server.start()
    server.wait_until_open()
    ran(request.config, "mortal-ferretdb", f"FerretDB {ferretdb.VERSION} (built by Go)")
    yield server.url
    server.end()


@pytest.fixture(
    params=[
        adapter("chunks", "postgres", "mortal-postgres"),
        adapter("chunks", "mongo-exact", "mortal-ferretdb"),
    ]
)
def chunk_server(request: pytest.FixtureRequest, mortal: MortalPostgres) -> ChunkServer:
    """A server of chunks whose data the mortal PostgreSQL keeps."""
    if request.param == "postgres":
        return PostgresServer(mortal.urls())
    url: str = request.getfixturevalue("mortal_ferretdb")
    registry: dict[str, str] = request.getfixturevalue("database_urls")
    return MongoServer(url, registry, is_exact=True)


async def write(store: ChunkStore, acknowledged: dict[UUID, int]) -> None:
    """Write versions, and note those that the store has acknowledged, until it does not answer."""
    while True:
        version_id, of_version = version_of(*["text"] * _CHUNKS)
        try:
            await store.replace_versions(of_version, vectors_for(of_version), generation=1)
        except Unavailable:
            return
        acknowledged[version_id] = _CHUNKS


async def counts(store: ChunkStore, versions: list[UUID]) -> dict[UUID, int]:
    """Count, as soon as the store answers again."""
    async with asyncio.timeout(120):
        while True:
            with suppress(Unavailable):
                return await store.count_versions(ACME, versions, generation=1)
            await asyncio.sleep(0.2)


async def test_what_was_acknowledged_outlives_the_servers_death(
    chunk_server: ChunkServer, mortal: MortalPostgres
) -> None:
    acknowledged: dict[UUID, int] = {}
    async with chunk_server.store() as store:
        writers = [asyncio.create_task(write(store, acknowledged)) for _ in range(_WRITERS)]
        async with asyncio.timeout(120):
            while len(acknowledged) < _VERSIONS:
                await asyncio.sleep(0.01)
        mortal.process.kill()
        await asyncio.gather(*writers)
        await mortal.start()
        assert await counts(store, list(acknowledged)) == acknowledged
