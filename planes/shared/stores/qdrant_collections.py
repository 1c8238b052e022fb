"""Generations of the index as Qdrant's collections, `chunks_g` and the number after the prefix."""

import re
from contextlib import suppress
from typing import Any

from qdrant_client import AsyncQdrantClient, models
from qdrant_client.http.exceptions import UnexpectedResponse

from planes.shared.errors import Conflict
from planes.shared.stores.qdrant_points import DENSE, DOCUMENT, TENANT, VERSION, WORDS
from planes.shared.stores.qdrant_server import Call, CollectionAbsent, QdrantServer
from planes.shared.stores.qdrant_settings import QdrantSettings

_IS_THERE = 409
_RANGE = models.IntegerIndexParams(type=models.IntegerIndexType.INTEGER, lookup=False, range=True)
_INDEXES: dict[str, models.UuidIndexParams | models.IntegerIndexParams] = {
    TENANT: models.UuidIndexParams(type=models.UuidIndexType.UUID, is_tenant=True),
    DOCUMENT: models.UuidIndexParams(type=models.UuidIndexType.UUID),
    VERSION: models.UuidIndexParams(type=models.UuidIndexType.UUID),
    "start": _RANGE,
    "end": _RANGE,
}
"""Of every field that a filter names. Points of one tenant lie together, so that a query reads few
pages (https://qdrant.tech/documentation/guides/multitenancy/)."""


class QdrantCollections:
    """The collections that hold generations."""

    def __init__(self, server: QdrantServer, settings: QdrantSettings) -> None:
        """Store the server, and how collections are made."""
        self._server = server
        self._settings = settings

    def name(self, generation: int) -> str:
        """Return the name of a generation's collection."""
        return f"{self._settings.qdrant_prefix}chunks_g{int(generation)}"

    async def generations(self) -> dict[int, int]:
        """Return the dimensions of the generations that the store holds, by number.

        Raises:
            Unavailable: Qdrant does not answer.
        """
        dimensions = {number: await self._dimension(number) for number in await self.numbers()}
        return {number: found for number, found in dimensions.items() if found is not None}

    async def numbers(self) -> list[int]:
        """Return the numbers of the generations that the store holds."""
        answer = await self._server.call(lambda client: client.get_collections())
        pattern = re.compile(re.escape(self._settings.qdrant_prefix) + r"chunks_g([0-9]+)")
        found = (pattern.fullmatch(collection.name) for collection in answer.collections)
        return sorted(int(match[1]) for match in found if match)

    async def create_generation(self, number: int, dimension: int) -> None:
        """Make a collection with its indexes; one that is there gets those that it lacks.

        Raises:
            Conflict: It is there with another dimension.
            Unavailable: Qdrant does not answer.
        """
        await self._create(number, dimension)
        if (held := await self._dimension(number)) != dimension:
            raise Conflict(f"Qdrant holds generation {number} with vectors of {held} dimensions.")
        for field, schema in _INDEXES.items():
            await self._server.write(_index(self.name(number), field, schema))

    async def drop_generation(self, number: int) -> None:
        """Remove a collection, if it is there.

        Raises:
            Unavailable: Qdrant does not answer.
        """
        with suppress(CollectionAbsent):
            await self._server.write(lambda client: client.delete_collection(self.name(number)))

    async def _create(self, number: int, dimension: int) -> None:
        if await self._dimension(number) is not None:
            return
        try:
            await self._server.write(
                lambda client: client.create_collection(
                    self.name(number), **self._shape_of(dimension)
                )
            )
        except UnexpectedResponse as error:  # another made it in this moment
            if error.status_code != _IS_THERE and await self._dimension(number) is None:
                raise

    async def _dimension(self, number: int) -> int | None:
        try:
            info = await self._server.call(lambda client: client.get_collection(self.name(number)))
        except CollectionAbsent:
            return None
        vectors = info.config.params.vectors
        return vectors[DENSE].size if isinstance(vectors, dict) and DENSE in vectors else 0

    def _shape_of(self, dimension: int) -> dict[str, Any]:
        """Return the arguments of a new collection.

        Vectors have unit length, so the dot product is their cosine, and Qdrant leaves them as they
        are. A graph for each tenant (`payload_m`) and none over all tenants (`m`): every query
        names its tenant.
        """
        settings = self._settings
        return {
            "vectors_config": {
                DENSE: models.VectorParams(size=dimension, distance=models.Distance.DOT)
            },
            "sparse_vectors_config": {WORDS: models.SparseVectorParams()},
            "hnsw_config": models.HnswConfigDiff(
                m=0,
                payload_m=settings.qdrant_hnsw_m,
                ef_construct=settings.qdrant_hnsw_ef_construct,
            ),
            "quantization_config": _QUANTIZATION[settings.qdrant_quantization],
            "shard_number": settings.qdrant_shards,
            "replication_factor": settings.qdrant_replicas,
            "write_consistency_factor": settings.qdrant_replicas // 2 + 1,
        }


_QUANTIZATION = {
    "none": None,
    "int8": models.ScalarQuantization(
        scalar=models.ScalarQuantizationConfig(type=models.ScalarType.INT8, always_ram=True)
    ),
}


def _index(collection: str, field: str, schema: models.PayloadSchemaParams) -> Call[object]:
    async def make(client: AsyncQdrantClient) -> object:
        return await client.create_payload_index(collection, field, schema, wait=True)

    return make
