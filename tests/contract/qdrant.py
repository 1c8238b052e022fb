"""Qdrant for the contract tests, with collections of their own."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit
from uuid import uuid4

import httpx

from planes.shared.index_ports import ChunkStore
from planes.shared.stores.postgres import Database
from planes.shared.stores.postgres_search_registry import SearchRegistry
from planes.shared.stores.qdrant import QdrantChunks
from tests.servers.qdrant import API_KEY, settings_of


class QdrantParts:
    """The part of a Qdrant server whose collections begin with a prefix of their own."""

    def __init__(self, url: str, registry_urls: dict[str, str]) -> None:
        """Store the addresses of the server, and of the registry by role."""
        self._url = urlsplit(url)
        self._registry_urls = registry_urls
        self._prefix = uuid4().hex
        self.port = self._url.port or 6333

    @asynccontextmanager
    async def store(
        self, role: str = "data", *, port: int | None = None
    ) -> AsyncIterator[ChunkStore]:
        """Open a store, and close it in the end."""
        database = Database(self._registry_urls[role], service="test")
        await database.open()
        reached = self._url._replace(netloc=f"{self._url.hostname}:{port or self.port}")
        settings = settings_of(
            reached.geturl(),
            qdrant_prefix=self._prefix,
            qdrant_deadline_s=5 if port else 300,
            qdrant_exact_search=True,
        )
        store = QdrantChunks(settings, SearchRegistry(database))
        await store.open()
        await store.create_generation(1, 384)
        yield store
        await store.close()
        await database.close()

    def remove(self) -> None:
        """Remove all that was written."""
        with httpx.Client(base_url=self._url.geturl(), headers={"api-key": API_KEY}) as client:
            found = client.get("/collections").raise_for_status().json()["result"]["collections"]
            for name in (each["name"] for each in found):
                if name.startswith(self._prefix):
                    client.delete(f"/collections/{name}").raise_for_status()
