"""Chunks that the version before has written, and goes on writing, have their vectors copied."""

from collections.abc import Iterator
from uuid import uuid4

import asyncpg
import pytest
from sqlalchemy import text

from planes.shared.stores import migrations
from services.embedded.postgres import Postgres
from services.embedded.schema import owner_connection

pytestmark = pytest.mark.integration

_WRITE = """
INSERT INTO chunks_g1 (id, tenant_id, document_id, version_id, ordinal, char_start, char_end,
                       heading, body, language, terms, embedding)
SELECT gen_random_uuid(), $1, gen_random_uuid(), $2, n, 0, 1, '', 'x', 'en', '',
       array_fill(n, ARRAY[384])::vector
FROM generate_series(1, 3) AS n
"""
_DIFFERENT = """
SELECT count(*) FROM chunks_g1 c FULL JOIN vectors_g1 v
  ON c.id = v.id AND c.tenant_id = v.tenant_id AND c.document_id = v.document_id
 AND c.version_id = v.version_id
 AND c.embedding = v.embedding
WHERE c.id IS NULL OR v.id IS NULL
"""


@pytest.fixture
def url(postgres: Postgres) -> Iterator[str]:
    """The owner's address of a database of the revision before."""
    name = f"test_{uuid4().hex}"
    with owner_connection(postgres.url("postgres")) as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    migrations.upgrade(postgres.url(name), revision="0010")
    yield postgres.url(name)
    with owner_connection(postgres.url("postgres")) as connection:
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))


async def test_vectors_are_copied_and_follow_the_chunks(url: str) -> None:
    owner, tenant, old, new = await asyncpg.connect(url), uuid4(), uuid4(), uuid4()
    try:
        await owner.execute(_WRITE, tenant, old)
        migrations.upgrade(url)
        assert await owner.fetchval("SELECT count(*) FROM vectors_g1") == 3
        await owner.execute(_WRITE, tenant, new)
        await owner.execute(
            "UPDATE chunks_g1 SET embedding = array_fill(7, ARRAY[384])::vector WHERE ordinal = 2"
        )
        await owner.execute("DELETE FROM chunks_g1 WHERE version_id = $1 AND ordinal = 1", old)
        assert await owner.fetchval("SELECT count(*) FROM vectors_g1") == 5
        assert await owner.fetchval(_DIFFERENT) == 0
    finally:
        await owner.close()
