"""The indexes of a chunk collection in MongoDB: ordinary ones, and those of MongoDB Search."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import structlog
from pymongo import IndexModel
from pymongo.errors import OperationFailure
from pymongo.operations import SearchIndexModel

from planes.shared.errors import Unavailable
from planes.shared.stores.mongo import Collection, Document, Mongo
from planes.shared.stores.mongo_documents import TERMS, VECTOR

VECTOR_INDEX, TEXT_INDEX = "chunks_vector", "chunks_text"
SCOPE_FIELDS = ("tenant_id", "document_id", "version_id")
"""What a search may be narrowed by. A collection is a generation, and tags are the registry's."""

_ORDINARY = (
    IndexModel([("tenant_id", 1), ("version_id", 1), ("ordinal", 1)], name="versions"),
    IndexModel([("tenant_id", 1), ("document_id", 1)], name="documents"),
)
_EXISTS_DIFFERENTLY = 68  # IndexAlreadyExists
_FIRST_LOOK_S, _LOOK_S = 0.05, 2.0

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class IndexOptions:
    """How vectors are indexed and searched.

    Attributes:
        quantization: `none`, `scalar` or `binary`: how the index compresses vectors.
        max_edges: Of a node of the HNSW graph, 16 to 64.
        edge_candidates: Nodes looked at to connect a new one, 100 to 3,200.
        num_candidates: Nearest neighbours that a search looks at, up to 10,000; at least its depth.
        wait_s: How long building an index may take.
    """

    quantization: str = "none"
    max_edges: int = 16
    edge_candidates: int = 100
    num_candidates: int = 2000
    wait_s: float = 600.0


def vector_index(dimension: int, options: IndexOptions) -> Document:
    """Return the definition of the `vectorSearch` index.

    https://www.mongodb.com/docs/vector-search/indexes/vector-search-type/
    """
    vector = {
        "type": "vector",
        "path": VECTOR,
        "numDimensions": dimension,
        "similarity": "cosine",
        "quantization": options.quantization,
        "hnswOptions": {
            "maxEdges": options.max_edges,
            "numEdgeCandidates": options.edge_candidates,
        },
    }
    return {"fields": [vector, *({"type": "filter", "path": path} for path in SCOPE_FIELDS)]}


def text_index() -> Document:
    """Return the definition of the `search` index.

    https://www.mongodb.com/docs/search/indexes/index-definitions/
    """
    scope = {path: {"type": "token"} for path in SCOPE_FIELDS}
    terms = {
        "type": "string",
        "analyzer": "lucene.whitespace",
        "searchAnalyzer": "lucene.whitespace",
        "indexOptions": "freqs",
        "store": False,
    }
    return {"mappings": {"dynamic": False, "fields": {TERMS: terms, **scope}}}


async def create_ordinary_indexes(mongo: Mongo, collection: Collection) -> None:
    """Make the indexes that keep reads of a tenant or of a version from looking at all."""
    with mongo.waiting():
        there = await collection.index_information()  # FerretDB fails on those that are there
        missing = [one for one in _ORDINARY if one.document["name"] not in there]
        if missing:
            await collection.create_indexes(missing)


async def create_search_indexes(
    mongo: Mongo, collection: Collection, dimension: int, options: IndexOptions
) -> None:
    """Make the search indexes of a collection that exists, or bring them to these options.

    Returns once they can be queried; to repeat it changes nothing.

    Raises:
        Unavailable: The server does not answer, or an index is not built in time or at all.
    """
    wanted = {
        VECTOR_INDEX: SearchIndexModel(
            vector_index(dimension, options), name=VECTOR_INDEX, type="vectorSearch"
        ),
        TEXT_INDEX: SearchIndexModel(text_index(), name=TEXT_INDEX, type="search"),
    }
    for name, model in wanted.items():
        with mongo.waiting():
            try:
                await collection.create_search_indexes([model])
            except OperationFailure as error:
                if error.code != _EXISTS_DIFFERENTLY:
                    raise
                _log.info("search index changes", collection=collection.name, index=name)
                await collection.update_search_index(name, dict(model.document["definition"]))
    try:
        async with asyncio.timeout(options.wait_s):
            for name in wanted:
                await _wait_until_built(mongo, collection, name)
    except TimeoutError as error:
        raise Unavailable(
            f"The search indexes of {collection.name} are not built after {options.wait_s:.0f} s. "
            "MongoDB goes on; repeat the command, or raise MONGO_INDEX_WAIT_S."
        ) from error


async def index_states(mongo: Mongo, collection: Collection) -> dict[str, str]:
    """Return the state of each search index of ours by name: `READY`, `BUILDING`, ..., `missing`.

    One that answers queries while a newer definition is built is `BUILDING` too.
    """
    with mongo.waiting():
        found = await (await collection.list_search_indexes()).to_list()
    states = {index["name"]: _state(index) for index in found}
    return {name: states.get(name, "missing") for name in (VECTOR_INDEX, TEXT_INDEX)}


async def _wait_until_built(mongo: Mongo, collection: Collection, name: str) -> None:
    pause_s = _FIRST_LOOK_S
    while (state := (await index_states(mongo, collection))[name]) != "READY":
        if state == "FAILED":
            raise Unavailable(
                f"MongoDB could not build the search index {name} of {collection.name}. Its own "
                "list of search indexes tells why."
            )
        await asyncio.sleep(pause_s)
        pause_s = min(2 * pause_s, _LOOK_S)


def _state(index: Mapping[str, Any]) -> str:
    status = str(index.get("status", "PENDING"))
    return "BUILDING" if status == "READY" and not index.get("queryable", False) else status
