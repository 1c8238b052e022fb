"""Chunks and their vectors in PostgreSQL with pgvector."""

from planes.shared.errors import InvalidInput
from planes.shared.stores.postgres import Database
from planes.shared.stores.postgres_chunk_keeper import PostgresChunkKeeper
from planes.shared.stores.postgres_chunk_reader import PostgresChunkReader
from planes.shared.stores.postgres_chunk_writer import PostgresChunkWriter

_SERVER = """
SELECT current_setting('server_version') AS server,
       (SELECT extversion FROM pg_extension WHERE extname = 'vector') AS pgvector
"""


_SEARCH = "exact; tenants of 20,000 chunks or more by a graph"


class PostgresChunks(PostgresChunkReader, PostgresChunkWriter, PostgresChunkKeeper):
    """Embedded chunks of every tenant, searchable by meaning and by words; a table a generation.

    The database is the caller's, who opens and closes it. A role that only reads cannot write, and
    only the schema's owner makes and drops generations.
    """

    def __init__(self, database: Database) -> None:
        """Store the database."""
        self._database = database

    async def open(self) -> None:
        """Check that the database has pgvector.

        Raises:
            InvalidInput: It has not.
            Unavailable: The database does not answer.
        """
        if "pgvector" not in await self.describe():
            raise InvalidInput("The database has no pgvector: run `CREATE EXTENSION vector` in it.")

    async def close(self) -> None:
        """Leave the database open."""

    async def describe(self) -> dict[str, str]:
        """Return the versions of server and extension.

        Raises:
            Unavailable: The database does not answer.
        """
        async with self._database.platform() as connection:
            row = await connection.fetchrow(_SERVER)
        known = {"store": "PostgreSQL", **dict(row or {}), "search": _SEARCH}
        return {name: value for name, value in known.items() if value is not None}
