"""MongoDB chunk stores for the contract tests, each in a database of its own."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

from pymongo import MongoClient
from pymongo.monitoring import (
    CommandFailedEvent,
    CommandListener,
    CommandStartedEvent,
    CommandSucceededEvent,
)

from planes.shared.stores.mongo import Mongo
from planes.shared.stores.mongo_chunks import MongoChunks
from planes.shared.stores.mongo_indexes import IndexOptions
from planes.shared.stores.postgres import Database
from planes.shared.stores.postgres_search_registry import SearchRegistry

DIMENSION = 384


@asynccontextmanager
async def mongo_store(
    url: str,
    registry: Database,
    *,
    is_exact: bool,
    in_arrays: bool = False,
    listeners: Sequence[CommandListener] = (),
    options: IndexOptions | None = None,
    deadline_s: float = 30.0,
) -> AsyncIterator[MongoChunks]:
    """Yield an open store with an empty generation 1; remove its database at the end."""
    database = f"test_{uuid4().hex}"
    mongo = Mongo(
        url, database=database, service="test", deadline_s=deadline_s, listeners=listeners
    )
    store = MongoChunks(
        mongo,
        SearchRegistry(registry),
        options=options or IndexOptions(wait_s=60),
        is_exact=is_exact,
        in_arrays=in_arrays,
    )
    await store.open()
    try:
        await store.create_generation(1, DIMENSION)
        yield store
    finally:
        for number in await store.generations():
            await store.drop_generation(number)
        await mongo.database.client.drop_database(mongo.database.name)
        await store.close()


class MongoServer:
    """A database of its own on a server, and a registry beside it; see `ChunkServer`.

    Attributes:
        ranks_words_itself: Whether the lexical score is the server's own, so that a chunk that its
            lexical search did not find has none.
    """

    def __init__(self, url: str, registry_urls: dict[str, str], *, is_exact: bool) -> None:
        """Store the addresses, those of the registry by role, and how it is searched."""
        self._url = urlsplit(url)
        self._registry_urls = registry_urls
        self._is_exact = is_exact
        self._database = f"test_{uuid4().hex}"
        self.ranks_words_itself = not is_exact
        self.port = self._url.port or 27017

    @asynccontextmanager
    async def store(
        self, role: str = "data", *, port: int | None = None
    ) -> AsyncIterator[MongoChunks]:
        """Open a store, and close it in the end."""
        user, at, _ = self._url.netloc.rpartition("@")
        url = self._url._replace(netloc=f"{user}{at}{self._url.hostname}:{port or self.port}")
        deadline_s = 3.0 if port else 30.0
        mongo = Mongo(url.geturl(), database=self._database, service="test", deadline_s=deadline_s)
        registry = Database(self._registry_urls[role], service="test")
        store = MongoChunks(
            mongo,
            SearchRegistry(registry),
            options=IndexOptions(wait_s=60),
            is_exact=self._is_exact,
        )
        await registry.open()
        try:
            await store.open()
            if not await store.generations():
                await store.create_generation(1, DIMENSION)
            yield store
        finally:
            await store.close()
            await registry.close()

    def remove(self) -> None:
        """Remove the database."""
        with MongoClient[dict[str, Any]](self._url.geturl()) as client:
            for name in client[self._database].list_collection_names():
                client[self._database].drop_collection(name)
            client.drop_database(self._database)


class Commands(CommandListener):
    """The commands that a client sent, in order."""

    def __init__(self) -> None:
        """Begin with none."""
        self.sent: list[dict[str, Any]] = []

    def started(self, event: CommandStartedEvent) -> None:
        """Keep a command."""
        self.sent.append(dict(event.command))

    def succeeded(self, event: CommandSucceededEvent) -> None:
        """Do nothing."""

    def failed(self, event: CommandFailedEvent) -> None:
        """Do nothing."""

    def of(self, name: str) -> list[dict[str, Any]]:
        """Return the commands of one name."""
        return [command for command in self.sent if name in command]
