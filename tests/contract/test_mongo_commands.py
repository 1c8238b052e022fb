"""What is sent to MongoDB, word for word as its documentation has it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from bson.binary import Binary, BinaryVectorDtype

from planes.shared.domain import SearchScope
from planes.shared.errors import Conflict, InvalidInput, Unavailable
from planes.shared.stores.mongo import Mongo
from planes.shared.stores.mongo_chunks import MongoChunks
from planes.shared.stores.mongo_indexes import IndexOptions
from planes.shared.stores.postgres import Database
from tests.contract.conftest import ACME, GLOBEX
from tests.contract.mongo import DIMENSION, Commands, mongo_store
from tests.contract.test_chunk_store import direction, version_of

pytestmark = pytest.mark.contract("chunks", "mongo-search", "mongo-search")
DatabaseOf = Callable[[str], Database]
ONE, OTHER = UUID(int=1), UUID(int=2)
FIELDS = {"document_id": 1, "version_id": 1}


@pytest.fixture
def commands() -> Commands:
    return Commands()


@pytest.fixture
async def store(
    mongo_search_url: str, database_of: DatabaseOf, commands: Commands
) -> AsyncIterator[MongoChunks]:
    """A store on a server with search, which has sent nothing but its indexes' commands."""
    async with mongo_store(
        mongo_search_url, database_of("data"), is_exact=False, listeners=[commands]
    ) as opened:
        yield opened


async def count_terms(database_of: DatabaseOf, **chunks: int) -> None:
    """Say in how many of 100 chunks each term occurs."""
    async with database_of("data").tenant(ACME) as connection:
        await connection.execute("INSERT INTO corpus_languages VALUES ($1, 1, 'en', 100)", ACME)
        await connection.executemany(
            "INSERT INTO term_frequencies VALUES ($1, 1, $2, $3)",
            [(ACME, term, count) for term, count in chunks.items()],
        )


@pytest.mark.usefixtures("store")
def test_the_indexes_are_those_of_the_documentation(commands: Commands) -> None:
    """https://www.mongodb.com/docs/vector-search/indexes/vector-search-type/ ("Syntax").

    And https://www.mongodb.com/docs/manual/reference/command/createSearchIndexes/ and
    https://www.mongodb.com/docs/search/indexes/index-definitions/.
    """
    sent = commands.of("createSearchIndexes")
    assert [command["createSearchIndexes"] for command in sent] == ["chunks_g1", "chunks_g1"]
    assert [index for command in sent for index in command["indexes"]] == [
        {
            "name": "chunks_vector",
            "type": "vectorSearch",
            "definition": {
                "fields": [
                    {
                        "type": "vector",
                        "path": "embedding",
                        "numDimensions": 384,
                        "similarity": "cosine",
                        "quantization": "none",
                        "hnswOptions": {"maxEdges": 16, "numEdgeCandidates": 100},
                    },
                    {"type": "filter", "path": "tenant_id"},
                    {"type": "filter", "path": "document_id"},
                    {"type": "filter", "path": "version_id"},
                ]
            },
        },
        {
            "name": "chunks_text",
            "type": "search",
            "definition": {
                "mappings": {
                    "dynamic": False,
                    "fields": {
                        "terms": {
                            "type": "string",
                            "analyzer": "lucene.whitespace",
                            "searchAnalyzer": "lucene.whitespace",
                            "indexOptions": "freqs",
                            "store": False,
                        },
                        "tenant_id": {"type": "token"},
                        "document_id": {"type": "token"},
                        "version_id": {"type": "token"},
                    },
                }
            },
        },
    ]


async def test_the_dense_arm_is_one_vector_search_with_the_scope_inside(
    store: MongoChunks, commands: Commands
) -> None:
    """https://www.mongodb.com/docs/vector-search/query/aggregation-stages/vector-search-stage/.

    "Syntax", and "MongoDB Vector Search Score": of the cosine it makes (1 + cosine) / 2.
    """
    scope = SearchScope(ACME, 1, hidden_versions=(ONE,), document_ids=(OTHER,))
    commands.sent.clear()
    await store.search("no known term", direction(3, 4), scope=scope, depth=20)
    (command,) = commands.of("aggregate")
    assert command["aggregate"] == "chunks_g1"
    assert command["pipeline"] == [
        {
            "$vectorSearch": {
                "index": "chunks_vector",
                "path": "embedding",
                "queryVector": Binary.from_vector(direction(3, 4), BinaryVectorDtype.FLOAT32),
                "numCandidates": 2000,
                "limit": 20,
                "filter": {
                    "$and": [
                        {"tenant_id": str(ACME)},
                        {"version_id": {"$nin": [str(ONE)]}},
                        {"document_id": {"$in": [str(OTHER)]}},
                    ]
                },
            }
        },
        {"$project": {**FIELDS, "score": {"$meta": "vectorSearchScore"}}},
    ]


async def test_the_lexical_arm_is_one_search_with_the_scope_inside(
    store: MongoChunks, commands: Commands, database_of: DatabaseOf
) -> None:
    """https://www.mongodb.com/docs/search/query/operators-collectors/compound/ ("Syntax").

    And `text`, `equals` and `in` beside it; the score as in
    https://www.mongodb.com/docs/search/query/score/get-details/.
    """
    rarer = {"heron": 1, "nest": 2, "reed": 3, "marsh": 4, "egret": 5, "stilt": 6}
    await count_terms(database_of, **rarer, water=90)
    scope = SearchScope(ACME, 1, hidden_versions=(ONE,), document_ids=(OTHER,))
    commands.sent.clear()
    await store.search(
        "water stilt egret marsh reed nest heron", direction(1), scope=scope, depth=7
    )
    _, command = commands.of("aggregate")
    assert command["pipeline"] == [
        {
            "$search": {
                "index": "chunks_text",
                "compound": {
                    "must": [
                        {"text": {"path": "terms", "query": "heron nest reed marsh egret stilt"}}
                    ],
                    "filter": [
                        {"equals": {"path": "tenant_id", "value": str(ACME)}},
                        {"in": {"path": "document_id", "value": [str(OTHER)]}},
                    ],
                    "should": [{"text": {"path": "terms", "query": "water"}}],
                    "mustNot": [{"in": {"path": "version_id", "value": [str(ONE)]}}],
                },
            }
        },
        {"$limit": 7},
        {"$project": {**FIELDS, "embedding": 1, "score": {"$meta": "searchScore"}}},
    ]


async def test_a_depth_above_the_candidates_raises_them(
    store: MongoChunks, commands: Commands
) -> None:
    store._search._num_candidates = 10
    commands.sent.clear()
    await store.search("", direction(1), scope=SearchScope(ACME, 1), depth=11)
    (command,) = commands.of("aggregate")
    stage = command["pipeline"][0]["$vectorSearch"]
    assert (stage["limit"], stage["numCandidates"]) == (11, 11)


@pytest.mark.parametrize("in_arrays", [False, True])
async def test_vectors_are_kept_and_asked_for_as_the_setting_says(
    in_arrays: bool, mongo_search_url: str, database_of: DatabaseOf, commands: Commands
) -> None:
    """https://www.mongodb.com/docs/manual/reference/bson-types/ (binary data, subtype 9)."""
    vector = direction(1, 2, 3)
    as_sent: Any = Binary.from_vector(vector, BinaryVectorDtype.FLOAT32)
    if in_arrays:
        as_sent = vector.astype(float).tolist()
    version_id, chunks = version_of("a heron")
    async with mongo_store(
        mongo_search_url,
        database_of("data"),
        is_exact=False,
        in_arrays=in_arrays,
        listeners=[commands],
    ) as store:
        await store.add_chunks(chunks, vector[np.newaxis], generation=1)
        arms = await store.search("", vector, scope=SearchScope(ACME, 1), depth=1)
        kept = await store.vectors(ACME, [chunks[0].id], generation=1)
        assert await store.count_versions(ACME, [version_id], generation=1) == {version_id: 1}
    documents = [document for one in commands.of("insert") for document in one["documents"]]
    assert [each["embedding"] for each in documents if "embedding" in each] == [as_sent]
    searches = [command["pipeline"][0] for command in commands.of("aggregate")]
    asked = [one["$vectorSearch"] for one in searches if "$vectorSearch" in one]
    assert asked[0]["queryVector"] == as_sent
    assert arms.candidates[0].dense == pytest.approx(1)
    assert np.array_equal(kept[chunks[0].id], vector)


async def test_every_command_names_the_tenant(
    store: MongoChunks, commands: Commands, database_of: DatabaseOf
) -> None:
    await count_terms(database_of, heron=1)
    version_id, chunks = version_of("a heron", "two herons")
    vectors = np.stack([direction(1), direction(2)])
    ids = [chunk.id for chunk in chunks]
    commands.sent.clear()
    await store.replace_versions(chunks, vectors, generation=1)
    await store.add_chunks(chunks, vectors, generation=1)
    await store.search("heron", direction(1), scope=SearchScope(ACME, 1), depth=1)
    await store.chunks_at(ACME, [(version_id, 0)], generation=1)
    await store.chunks_around(ACME, [(version_id, 0, 1)], generation=1)
    await store.headings(ACME, version_id, generation=1, limit=1)
    await store.count_versions(ACME, [version_id], generation=1)
    await store.count_everywhere(ACME, [version_id])
    await store.fingerprints(ACME, version_id, generation=1)
    await store.pages(ACME, version_id, generation=1)
    await store.vectors(ACME, ids, generation=1)
    assert [count async for count in store.version_counts(ACME, generation=1)]
    await store.remove_chunks(ACME, ids, generation=1)
    await store.remove_everywhere(ACME, version_id)
    await store.remove_tenant(ACME)
    sent = [command for command in commands.sent if "chunks_g1" in command.values()]
    assert {next(iter(command)) for command in sent} >= {"find", "aggregate", "delete", "update"}
    for command in sent:
        assert all(str(ACME) in str(part) for part in _asked(command)), command


def _asked(command: dict[str, Any]) -> list[Any]:
    """Return what a command picks documents by, or the documents that it writes."""
    if "aggregate" in command:
        return command["pipeline"][:1]
    if "find" in command:
        return [command["filter"]]
    many = {"delete": "deletes", "update": "updates", "insert": "documents"}
    return command[many[next(iter(command))]]


async def test_other_options_bring_an_index_that_is_there_up_to_date(
    mongo_search_url: str, database_of: DatabaseOf, commands: Commands
) -> None:
    options = IndexOptions(quantization="scalar", max_edges=32, edge_candidates=200, wait_s=60)
    async with mongo_store(
        mongo_search_url, database_of("data"), is_exact=False, listeners=[commands]
    ) as store:
        await store.create_generation(1, DIMENSION)
        assert commands.of("updateSearchIndex") == [], "the same definition changes nothing"
        store._generations._options = options
        await store.create_generation(1, DIMENSION)
        (update,) = commands.of("updateSearchIndex")
        assert update["name"] == "chunks_vector"
        assert update["definition"]["fields"][0]["quantization"] == "scalar"
        assert (await store.describe())["chunks_g1"] == "chunks_vector READY, chunks_text READY"
        with pytest.raises(Conflict, match="384 dimensions"):
            await store.create_generation(1, 512)


async def test_an_index_that_never_shows_what_was_written_is_told(
    mongo_search_url: str, database_of: DatabaseOf
) -> None:
    version_id, chunks = version_of("a heron")
    async with mongo_store(
        mongo_search_url, database_of("data"), is_exact=False, deadline_s=2
    ) as store:
        await store.replace_versions(chunks, direction(1)[np.newaxis], generation=1)
        assert await store.count_versions(ACME, [version_id], generation=1) == {version_id: 1}
        await store._generations.collection(1).drop_search_index("chunks_text")
        assert (await store.describe())["chunks_g1"] == "chunks_vector READY, chunks_text missing"
        assert await store.count_versions(ACME, [version_id], generation=1) == {}


async def test_an_index_that_is_not_built_in_time_is_told(
    mongo_search_url: str, database_of: DatabaseOf
) -> None:
    options = IndexOptions(wait_s=0.01)
    with pytest.raises(Unavailable, match="MONGO_INDEX_WAIT_S"):
        async with mongo_store(
            mongo_search_url, database_of("data"), is_exact=False, options=options
        ):
            pytest.fail("the index takes longer")


async def test_a_server_without_search_is_refused_with_what_to_do(
    mongo_url: str, database_of: DatabaseOf
) -> None:
    with pytest.raises(InvalidInput, match=r"atlas-local.*MONGO_EXACT_SEARCH=true"):
        async with mongo_store(mongo_url, database_of("data"), is_exact=False):
            pytest.fail("it has no $vectorSearch")


async def test_a_server_that_does_not_answer_is_unavailable() -> None:
    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with await asyncio.start_server(say_nothing, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        mongo = Mongo(f"mongodb://127.0.0.1:{port}", database="a", service="test", deadline_s=0.2)
        with pytest.raises(Unavailable):
            await mongo.open()
        with pytest.raises(Unavailable):
            await mongo.find_out()
    with pytest.raises(InvalidInput, match="MONGO_URL"):
        await Mongo("mongodb://", database="a", service="test").open()


async def test_a_place_in_another_tenants_version_holds_nothing(
    mongo_url: str, database_of: DatabaseOf
) -> None:
    version_id, ours = version_of("ours")
    async with mongo_store(mongo_url, database_of("data"), is_exact=True) as store:
        await store.add_chunks(ours, direction(1)[np.newaxis], generation=1)
        assert await store.chunks_at(ACME, [(version_id, 0)], generation=1) == ours
        assert await store.chunks_at(GLOBEX, [(version_id, 0)], generation=1) == []
        assert await store.chunks_around(GLOBEX, [(version_id, 0, 1)], generation=1) == []
        assert await store.vectors(GLOBEX, [ours[0].id], generation=1) == {}
        await store.remove_chunks(GLOBEX, [ours[0].id], generation=1)
        assert await store.remove_tenant(GLOBEX) == 0
        assert await store.count_everywhere(ACME, [version_id]) == 1
