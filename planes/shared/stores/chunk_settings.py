"""Where chunks are kept: PostgreSQL, MongoDB or Qdrant."""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Literal, Self

from pydantic import Field, model_validator

from planes.shared.stores.mongo_settings import MongoSettings, mongo_chunks
from planes.shared.stores.qdrant_settings import QdrantSettings

if TYPE_CHECKING:
    from planes.shared.index_ports import ChunkStore
    from planes.shared.stores.chunks_by_generation import ChunksByGeneration
    from planes.shared.stores.postgres import Database

ChunkStoreKind = Literal["postgres", "mongo", "qdrant"]


class ChunkStoreSettings(MongoSettings, QdrantSettings):
    """`CHUNK_STORE`, or else the one store whose address is set; PostgreSQL where none is.

    Generations stay where they were made; a setting that changes is for new ones.
    """

    chunk_store_wanted: ChunkStoreKind | None = Field(None, validation_alias="CHUNK_STORE")

    @property
    def chunk_store(self) -> ChunkStoreKind:
        """The store in which new generations are made."""
        if self.chunk_store_wanted is not None:
            return self.chunk_store_wanted
        if self.mongo_url is not None:
            return "mongo"
        return "postgres" if self.qdrant_url is None else "qdrant"

    @property
    def chunk_stores(self) -> tuple[ChunkStoreKind, ...]:
        """The stores that there are, since their addresses are known."""
        found: list[ChunkStoreKind] = ["postgres"]
        if self.mongo_url is not None:
            found.append("mongo")
        if self.qdrant_url is not None:
            found.append("qdrant")
        return tuple(found)

    @model_validator(mode="after")
    def _check_chunk_store(self) -> Self:
        if self.chunk_store_wanted is None and self.mongo_url and self.qdrant_url:
            raise ValueError("MONGO_URL and QDRANT_URL are both set: CHUNK_STORE says which one")
        if self.chunk_store == "mongo" and self.mongo_url is None:
            raise ValueError("CHUNK_STORE=mongo wants MONGO_URL")
        if self.chunk_store == "qdrant" and self.qdrant_url is None:
            raise ValueError("CHUNK_STORE=qdrant wants QDRANT_URL")
        return self


def chunk_stores(settings: ChunkStoreSettings, database: "Database") -> "ChunksByGeneration":
    """Return the chunks of all generations, each in the store that has it; `open` connects.

    Args:
        settings: From the environment.
        database: The registry's, opened and closed by the caller.
    """
    from planes.shared.stores.chunks_by_generation import ChunksByGeneration

    makers: dict[str, Callable[[], ChunkStore]] = {
        kind: partial(chunk_store, settings, database, kind) for kind in settings.chunk_stores
    }
    return ChunksByGeneration(database, makers, default=settings.chunk_store)


def chunk_store(
    settings: ChunkStoreSettings, database: "Database", kind: ChunkStoreKind | None = None
) -> "ChunkStore":
    """Return one chunk store, whatever generations it holds; it connects when it is opened.

    Args:
        settings: From the environment.
        database: The registry's, opened and closed by the caller.
        kind: Another store than that of new generations.
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
