"""Each port's adapters, on fresh stores of their own."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from uuid import UUID, uuid4

import asyncpg
import pytest

from planes.shared.stores.objects import FolderObjects
from planes.shared.stores.postgres import Database
from planes.shared.stores.postgres_chat_log import PostgresChatLog
from planes.shared.stores.postgres_chunks import PostgresChunks

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


@pytest.fixture(params=["postgres"])
async def chunks(
    request: pytest.FixtureRequest, database_of: Callable[[str], Database]
) -> PostgresChunks:
    """The chunk store, as the data plane sees it."""
    assert request.param == "postgres"
    return PostgresChunks(database_of("data"))


@pytest.fixture(params=["postgres"])
async def chat_log(
    request: pytest.FixtureRequest, database_of: Callable[[str], Database]
) -> PostgresChatLog:
    """The chat log."""
    assert request.param == "postgres"
    return PostgresChatLog(database_of("gateway"))


@pytest.fixture(params=["folder"])
def objects(request: pytest.FixtureRequest, tmp_path: Path) -> FolderObjects:
    """The object store."""
    assert request.param == "folder"
    return FolderObjects(tmp_path / f"objects-{uuid4().hex}")
