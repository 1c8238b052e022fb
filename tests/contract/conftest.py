"""Each port's adapters, on fresh stores of their own."""

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from planes.shared.index_ports import ChunkStore
from planes.shared.ports import ChatLog, ObjectStore
from planes.shared.stores.chat_log_settings import open_chat_log
from planes.shared.stores.object_settings import ObjectStoreSettings, object_store
from planes.shared.stores.postgres import Database
from tests.contract.chunk_servers import ChunkServer, PostgresServer
from tests.contract.mongo import MongoServer
from tests.contract.qdrant import QdrantParts
from tests.servers.cql_fixtures import cql_settings

ACME = UUID("01900000-0000-7000-8000-00000000ac3e")
GLOBEX = UUID("01900000-0000-7000-8000-0000000610be")


@pytest.fixture
async def database_of(
    database_urls: dict[str, str],
) -> AsyncIterator[Callable[[str], Database]]:
    """Return an open database by role; two tenants exist in it."""
    admin = await asyncpg.connect(database_urls["admin"])
    for tenant in (ACME, GLOBEX):
        await admin.execute("INSERT INTO tenants (id, name) VALUES ($1, 'a team')", tenant)
    await admin.close()
    opened: dict[str, Database] = {}
    for role in ("gateway", "data", "serving"):
        opened[role] = Database(database_urls[role], service=f"test-{role}")
        await opened[role].open()
    yield opened.__getitem__
    for database in opened.values():
        await database.close()


def adapter(port: str, name: str, server: str) -> Any:
    """Return a parameter whose tests are a cell of the contract matrix."""
    return pytest.param(name, marks=pytest.mark.contract(port, name, server))


@pytest.fixture(
    params=[
        adapter("chunks", "postgres", "postgres"),
        adapter("chunks", "mongo-exact", "mongo"),
        adapter("chunks", "mongo-search", "mongo-search"),
        adapter("chunks", "qdrant", "qdrant"),
    ]
)
def chunk_server(
    request: pytest.FixtureRequest, database_urls: dict[str, str]
) -> Iterator[ChunkServer]:
    """A server of chunks beside the registry."""
    if request.param == "postgres":
        yield PostgresServer(database_urls)
        return
    if request.param == "qdrant":
        parts = QdrantParts(request.getfixturevalue("qdrant_url"), database_urls)
        yield parts
        parts.remove()
        return
    is_exact = request.param == "mongo-exact"
    url: str = request.getfixturevalue("mongo_url" if is_exact else "mongo_search_url")
    server = MongoServer(url, database_urls, is_exact=is_exact)
    yield server
    server.remove()


@pytest.fixture
async def chunks(chunk_server: ChunkServer) -> AsyncIterator[ChunkStore]:
    """The chunk store, as the data plane sees it."""
    async with chunk_server.store() as store:
        yield store


@pytest.fixture
async def keeper(chunk_server: ChunkServer) -> AsyncIterator[ChunkStore]:
    """The chunk store in the hands of the one who makes and drops generations."""
    async with chunk_server.store("admin") as store:
        yield store


@pytest.fixture(
    params=[adapter("messages", "postgres", "postgres"), adapter("messages", "cql", "cql")]
)
async def chat_log(
    request: pytest.FixtureRequest, database_of: Callable[[str], Database]
) -> AsyncIterator[ChatLog]:
    """The chat log."""
    values = {} if request.param == "postgres" else request.getfixturevalue("cql_values")
    async with open_chat_log(cql_settings(values), database_of("gateway")) as log:
        yield log


@pytest.fixture(params=[adapter("files", "folder", "none"), adapter("files", "s3", "s3")])
def objects(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    """An empty object store."""
    if request.param == "folder":
        return object_store(settings(objects_dir=tmp_path / "objects"))
    return object_store(settings(s3_prefix=uuid4().hex, **request.getfixturevalue("s3_values")))


def settings(**values: object) -> ObjectStoreSettings:
    """Return settings of an object store and nothing else."""
    return ObjectStoreSettings.model_validate(values)
