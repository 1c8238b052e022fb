"""The generations of the index in MongoDB: a collection each, and one that lists them."""

from pymongo.errors import CollectionInvalid, DuplicateKeyError, OperationFailure

from planes.shared.errors import Conflict, Unavailable
from planes.shared.stores.mongo import Collection, Mongo
from planes.shared.stores.mongo_indexes import (
    IndexOptions,
    create_ordinary_indexes,
    create_search_indexes,
)

_LIST = "chunk_generations"
_EXISTS = 48  # NamespaceExists


class MongoGenerations:
    """Which generations there are; what the port `ChunkKeeper` says."""

    def __init__(self, mongo: Mongo, *, options: IndexOptions, is_exact: bool) -> None:
        """Store the server, and how chunks are indexed: without search indexes where exact."""
        self._mongo = mongo
        self._options = options
        self._is_exact = is_exact

    def collection(self, number: int) -> Collection:
        """Return the collection of a generation, whether it is there or not."""
        return self._mongo.database[f"chunks_g{int(number)}"]

    async def require(self, number: int) -> None:
        """Pass where a generation is there: a write would make a collection without indexes.

        Raises:
            Unavailable: It is not there; it says what to run.
        """
        if number not in await self.dimensions():
            raise Unavailable(
                f"MongoDB holds no generation {number} of the index: run `polyplane migrate`."
            )

    async def dimensions(self) -> dict[int, int]:
        """Return the dimensions of the generations that there are, by number."""
        with self._mongo.waiting():
            found = await self._mongo.database[_LIST].find().to_list()
        return {row["_id"]: row["dimension"] for row in found}

    async def create(self, number: int, dimension: int) -> None:
        """Make a collection and its indexes, and return once it can be searched.

        Where it is there, its indexes are brought to the options.

        Raises:
            Conflict: It is there with another dimension.
            Unavailable: The server does not answer, or an index is not built in time.
        """
        await self._note(number, dimension)
        collection = self.collection(number)
        with self._mongo.waiting():
            try:
                await self._mongo.database.create_collection(collection.name)
            except CollectionInvalid:
                pass
            except OperationFailure as error:
                if error.code != _EXISTS:
                    raise
        await create_ordinary_indexes(self._mongo, collection)
        if not self._is_exact:
            await create_search_indexes(self._mongo, collection, dimension, self._options)

    async def drop(self, number: int) -> None:
        """Remove a collection and its indexes, if they are there."""
        with self._mongo.waiting():
            await self.collection(number).drop()
            await self._mongo.database[_LIST].delete_one({"_id": number})

    async def _note(self, number: int, dimension: int) -> None:
        with self._mongo.waiting():
            try:
                await self._mongo.database[_LIST].insert_one(
                    {"_id": number, "dimension": dimension}
                )
            except DuplicateKeyError:
                pass
            else:
                return
        kept = (await self.dimensions()).get(number)
        if kept not in {None, dimension}:
            raise Conflict(f"Generation {number} is there with {kept} dimensions.")
