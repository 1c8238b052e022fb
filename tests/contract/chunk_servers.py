"""The servers that chunk stores are tried on; each opens its adapter, by role and by port."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Protocol
from urllib.parse import urlsplit, urlunsplit

from planes.shared.index_ports import ChunkStore
from planes.shared.stores.postgres import Database
from planes.shared.stores.postgres_chunks import PostgresChunks


class ChunkServer(Protocol):
    """A server that holds an empty generation 1 of 384 dimensions, beside a registry."""

    port: int

    def store(
        self, role: str = "data", *, port: int | None = None
    ) -> AbstractAsyncContextManager[ChunkStore]:
        """Open a store, and close it in the end.

        Args:
            role: Who opens it: data, serving, or admin, who makes and drops generations.
            port: Where the server of the chunks is reached; None: where it is.
        """
        ...


class PostgresServer:
    """A fresh database."""

    def __init__(self, urls: dict[str, str]) -> None:
        """Store its addresses by role."""
        self._urls = urls
        self.port = urlsplit(urls["data"]).port or 5432

    @asynccontextmanager
    async def store(
        self, role: str = "data", *, port: int | None = None
    ) -> AsyncIterator[ChunkStore]:
        """Open a store, and close it in the end."""
        url = urlsplit(self._urls[role])
        user = url.netloc.rpartition("@")[0]
        reached = url._replace(netloc=f"{user}@127.0.0.1:{port or self.port}")
        database = Database(urlunsplit(reached), service="test", deadline_s=5 if port else 300)
        await database.open()
        store = PostgresChunks(database)
        await store.open()
        yield store
        await store.close()
        await database.close()
