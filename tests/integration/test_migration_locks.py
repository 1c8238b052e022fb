"""Migrations beside a database in use, and beside one another."""

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import asyncpg
import pytest
from sqlalchemy import text

from planes.shared.stores import migrations
from planes.shared.stores.migrations import MigrationBlocked, head_revision
from services.embedded.postgres import Postgres
from services.embedded.schema import owner_connection

pytestmark = pytest.mark.integration


@pytest.fixture
def url(postgres: Postgres) -> Iterator[str]:
    """The owner's address of an empty database."""
    name = f"test_{uuid4().hex}"
    with owner_connection(postgres.url("postgres")) as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    yield postgres.url(name)
    with owner_connection(postgres.url("postgres")) as connection:
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))


async def revision_at(url: str) -> str:
    connection = await asyncpg.connect(url)
    try:
        return str(await connection.fetchval("SELECT version_num FROM alembic_version"))
    finally:
        await connection.close()


def test_many_migrators_at_once_end_well(url: str) -> None:
    program = f"from planes.shared.stores import migrations; migrations.upgrade({url!r})"
    running = [subprocess.Popen([sys.executable, "-c", program]) for _ in range(3)]
    assert [process.wait(120) for process in running] == [0, 0, 0]
    assert asyncio.run(revision_at(url)) == head_revision()


async def test_a_table_in_use_is_left_to_its_users_and_changed_afterwards(url: str) -> None:
    migrations.upgrade(url, revision="0005")
    user, reader = await asyncpg.connect(url), await asyncpg.connect(url)
    try:
        using = user.transaction()
        await using.start()
        await user.execute("LOCK TABLE conversations IN ACCESS SHARE MODE")
        with ThreadPoolExecutor(1) as threads:
            loop = asyncio.get_running_loop()
            blocked = loop.run_in_executor(
                threads, lambda: migrations.upgrade(url, revision="0006", attempts=2)
            )
            while not blocked.done():  # whoever comes behind the migration waits two seconds, once
                await reader.execute("SELECT count(*) FROM conversations", timeout=20)
                await asyncio.sleep(0.05)
            with pytest.raises(MigrationBlocked, match="pg_stat_activity"):
                await blocked
            assert await revision_at(url) == "0005"
            await using.rollback()
            await loop.run_in_executor(threads, lambda: migrations.upgrade(url))
        assert await revision_at(url) == head_revision()
    finally:
        await user.close()
        await reader.close()


def test_a_poolers_address_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="not of a pooler"):
        migrations.upgrade(f"{url}?pooler=transaction")
