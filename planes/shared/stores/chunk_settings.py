"""Where chunks are kept: PostgreSQL, MongoDB or Qdrant."""

from typing import TYPE_CHECKING, Literal, Self

from pydantic import Field, model_validator

from planes.shared.stores.mongo_settings import MongoSettings, mongo_chunks
from planes.shared.stores.qdrant_settings import QdrantSettings

if TYPE_CHECKING:
    from planes.shared.index_ports import ChunkStore
    from planes.shared.stores.postgres import Database

ChunkStoreKind = Literal["postgres", "mongo", "qdrant"]


class ChunkStoreSettings(MongoSettings, QdrantSettings):
    """`CHUNK_STORE`, or else the one store whose address is set; PostgreSQL where none is."""

    chunk_store_wanted: ChunkStoreKind | None = Field(None, validation_alias="CHUNK_STORE")

    @property
    def chunk_store(self) -> ChunkStoreKind:
        """The store that is searched."""
        if self.chunk_store_wanted is not None:
            return self.chunk_store_wanted
        if self.mongo_url is not None:
            return "mongo"
        return "postgres" if self.qdrant_url is None else "qdrant"

    @model_validator(mode="after")
    def _check_chunk_store(self) -> Self:
        if self.chunk_store_wanted is None and self.mongo_url and self.qdrant_url:
            raise ValueError("MONGO_URL and QDRANT_URL are both set: CHUNK_STORE says which one")
        if self.chunk_store == "mongo" and self.mongo_url is None:
            raise ValueError("CHUNK_STORE=mongo wants MONGO_URL")
        if self.chunk_store == "qdrant" and self.qdrant_url is None:
            raise ValueError("CHUNK_STORE=qdrant wants QDRANT_URL")
        return self


def chunk_store(
    settings: ChunkStoreSettings, database: "Database", kind: ChunkStoreKind | None = None
) -> "ChunkStore":
    """Return the chunk store that the settings name; it connects when it is opened.

    Args:
        settings: From the environment.
        database: The registry's, opened and closed by the caller.
        kind: Another store than the settings', for copies.
    """
    wanted = kind or settings.chunk_store
    if wanted == "postgres":
        from planes.shared.stores.postgres_chunks import PostgresChunks  # with its analyser

        return PostgresChunks(database)
    if wanted == "mongo":
        return mongo_chunks(settings, database, service="polyplane")
    from planes.shared.stores.postgres_search_registry import SearchRegistry
    from planes.shared.stores.qdrant import QdrantChunks  # with its driver

    return QdrantChunks(settings, SearchRegistry(database))
