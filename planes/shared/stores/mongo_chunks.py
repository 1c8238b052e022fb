"""Chunks and their vectors in MongoDB."""

import structlog

from planes.shared.errors import InvalidInput
from planes.shared.stores.mongo import Mongo
from planes.shared.stores.mongo_chunk_checks import MongoChunkChecks
from planes.shared.stores.mongo_chunk_reader import MongoChunkReader
from planes.shared.stores.mongo_chunk_writer import MongoChunkWriter
from planes.shared.stores.mongo_exact import ExactSearch
from planes.shared.stores.mongo_generations import MongoGenerations
from planes.shared.stores.mongo_indexes import IndexOptions, index_states
from planes.shared.stores.mongo_search import IndexedSearch
from planes.shared.stores.postgres_search_registry import SearchRegistry

_EXACT_IS_RIGHT_TO = 100_000  # chunks of a tenant

_log = structlog.get_logger(__name__)


class MongoChunks(MongoChunkReader, MongoChunkWriter, MongoChunkChecks):
    """Embedded chunks of every tenant, searchable by meaning and by words.

    A collection a generation; see the port `ChunkStore`.
    """

    def __init__(
        self,
        mongo: Mongo,
        registry: SearchRegistry,
        *,
        options: IndexOptions,
        is_exact: bool,
        in_arrays: bool = False,
    ) -> None:
        """Store the parts.

        Args:
            mongo: The server.
            registry: Knows documents and how often terms occur.
            options: How chunks are indexed.
            is_exact: Whether searches read all of a tenant, for servers without vector search.
            in_arrays: Whether vectors are arrays of doubles, and not BSON binary vectors.
        """
        self._is_exact = is_exact
        generations = MongoGenerations(mongo, options=options, is_exact=is_exact)
        indexed = IndexedSearch(mongo, num_candidates=options.num_candidates, in_arrays=in_arrays)
        search = ExactSearch(mongo) if is_exact else indexed
        MongoChunkReader.__init__(self, mongo, generations, registry, search)
        MongoChunkWriter.__init__(self, mongo, generations, in_arrays=in_arrays)
        MongoChunkChecks.__init__(self, mongo, generations, None if is_exact else indexed)

    async def open(self) -> None:
        """Connect, and find out what the server can.

        Raises:
            InvalidInput: It has no vector search, and exact search is not allowed.
            Unavailable: It does not answer.
        """
        server = await self._mongo.open()
        if self._is_exact:
            _log.info(
                "mongodb is searched exactly",
                server=server.name,
                right_up_to_chunks_a_tenant=_EXACT_IS_RIGHT_TO,
            )
        elif not server.has_search:
            await self._mongo.close()
            raise InvalidInput(
                f"The server of MONGO_URL ({server.name}) has no vector search. Use MongoDB Atlas, "
                "or MongoDB 8.2 or newer with mongot beside it (the image "
                "mongodb/mongodb-atlas-local holds both). Or set MONGO_EXACT_SEARCH=true, which "
                f"looks at every chunk of a tenant: right up to about {_EXACT_IS_RIGHT_TO:,}."
            )

    async def close(self) -> None:
        """Give back what `open` took; repeating it changes nothing."""
        await self._mongo.close()

    async def describe(self) -> dict[str, str]:
        """Return what the server is and can, in words.

        Raises:
            Unavailable: It does not answer.
        """
        server = await self._mongo.find_out()
        told = {"store": server.name}
        if self._is_exact:
            told["search"] = (
                f"exact (MONGO_EXACT_SEARCH), right up to about {_EXACT_IS_RIGHT_TO:,} chunks of a "
                "tenant"
            )
            return told
        told["search"] = "by $vectorSearch and $search" if server.has_search else "none"
        for number in await self.generations() if server.has_search else ():
            collection = self._generations.collection(number)
            states = await index_states(self._mongo, collection)
            told[collection.name] = ", ".join(f"{name} {state}" for name, state in states.items())
        return told

    async def generations(self) -> dict[int, int]:
        """Return the dimensions of the generations that the store holds, by number."""
        return await self._generations.dimensions()

    async def create_generation(self, number: int, dimension: int) -> None:
        """Make room for a generation, with its indexes, and return once it can be searched."""
        await self._generations.create(number, dimension)

    async def drop_generation(self, number: int) -> None:
        """Remove a generation and all its chunks, if it is there."""
        await self._generations.drop(number)
