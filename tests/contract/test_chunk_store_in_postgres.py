"""What holds of chunks in PostgreSQL alone."""

from collections.abc import Callable
from pathlib import Path

import asyncpg
import numpy as np
import pytest

from planes.shared.domain import SearchScope
from planes.shared.errors import Unavailable
from planes.shared.stores.postgres import Database
from planes.shared.stores.postgres_chunks import PostgresChunks
from tests.contract.conftest import ACME, GLOBEX
from tests.contract.test_chunk_store import direction, scope, version_of

pytestmark = pytest.mark.contract("chunks", "postgres", "postgres")


async def test_a_role_that_only_reads_cannot_write(
    database_of: Callable[[str], Database],
) -> None:
    version_id, of_version = version_of("plans")
    await PostgresChunks(database_of("data")).add_chunks(
        of_version, np.stack([direction(1)]), generation=1
    )
    reader = PostgresChunks(database_of("serving"))
    assert not (await reader.search("plans", direction(1), scope=scope(), depth=1)).is_empty
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await reader.remove_everywhere(ACME, version_id)


async def test_a_generation_that_is_not_there_is_unavailable(
    database_of: Callable[[str], Database],
) -> None:
    absent = SearchScope(tenant_id=ACME, generation=7)
    with pytest.raises(Unavailable):
        await PostgresChunks(database_of("serving")).search(
            "plans", direction(1), scope=absent, depth=1
        )


async def test_making_a_generation_that_is_there_is_no_error_of_the_database(
    database_urls: dict[str, str], server_folder: Path
) -> None:
    log = server_folder / "postgres.log"
    database = Database(database_urls["admin"], service="test")
    await database.open()
    errors = log.read_text("utf-8").count("ERROR")
    await PostgresChunks(database).create_generation(1, 384)
    await database.close()
    assert log.read_text("utf-8").count("ERROR") == errors


async def test_no_service_makes_or_drops_a_generation(
    database_of: Callable[[str], Database],
) -> None:
    store = PostgresChunks(database_of("data"))
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await store.create_generation(2, 8)
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await store.drop_generation(1)


async def test_row_level_security_shows_no_other_tenants_rows(
    database_of: Callable[[str], Database],
) -> None:
    _, of_version = version_of("plans")
    await PostgresChunks(database_of("data")).add_chunks(
        of_version, np.stack([direction(1)]), generation=1
    )
    for tenant, rows in ((ACME, 1), (GLOBEX, 0)):
        async with database_of("serving").tenant(tenant) as connection:
            assert await connection.fetchval("SELECT count(*) FROM chunks_g1") == rows
