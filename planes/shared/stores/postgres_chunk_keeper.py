"""The chunk tables in PostgreSQL, as the owner of the schema makes and drops them."""

import asyncpg

from planes.shared.errors import Conflict
from planes.shared.stores.postgres import Database
from planes.shared.stores.postgres_chunk_rows import table_of, vector_table_of

_TABLES = """
SELECT substr(c.relname, 9)::integer AS number, a.atttypmod AS dimension
FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'embedding'
WHERE c.relkind = 'r' AND c.relnamespace = 'public'::regnamespace AND c.relname ~ '^chunks_g[0-9]+$'
ORDER BY 1
"""


class PostgresChunkKeeper:
    """One chunk table for each generation; making and dropping them needs the schema's owner."""

    def __init__(self, database: Database) -> None:
        """Store the database."""
        self._database = database

    async def generations(self) -> dict[int, int]:
        """Return the dimensions of the generations that there are, by number."""
        async with self._database.platform() as connection:
            rows = await connection.fetch(_TABLES)
        return {row["number"]: row["dimension"] for row in rows}

    async def create_generation(self, number: int, dimension: int) -> None:
        """Make a chunk table, if there is none of that number.

        Raises:
            Conflict: There is one with another dimension.
            Unavailable: The database does not answer.
        """
        held = (await self.generations()).get(number)
        if held is None:
            held = await self._create_table(number, dimension)
        if held != dimension:
            raise Conflict(
                f"Generation {number} has vectors of {held} dimensions, not {dimension}."
            )

    async def _create_table(self, number: int, dimension: int) -> int | None:
        """Make a chunk table, and return its dimension: another one's where that was faster."""
        try:
            async with self._database.platform() as connection:
                await connection.execute("SELECT create_chunk_table($1, $2)", number, dimension)
        except (asyncpg.DuplicateTableError, asyncpg.UniqueViolationError):
            return (await self.generations()).get(number)
        return dimension

    async def drop_generation(self, number: int) -> None:
        """Drop a chunk table and its vectors, if there are any; in the order of searches."""
        tables = f"{vector_table_of(number)}, {table_of(number)}"
        async with self._database.platform() as connection:
            await connection.execute(f"DROP TABLE IF EXISTS {tables}")
