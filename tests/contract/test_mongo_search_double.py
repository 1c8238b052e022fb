"""The double of MongoDB's search refuses what MongoDB refuses, with its codes and words.

Against a real server (TEST_MONGO_SEARCH_URL) the same tests say whether the double is right.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import pytest
from pymongo import AsyncMongoClient
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.errors import OperationFailure
from pymongo.operations import SearchIndexModel

pytestmark = pytest.mark.contract("search of MongoDB", "double", "mongo-search")
Collection = AsyncCollection[dict[str, Any]]

VECTORS = {
    "fields": [
        {"type": "vector", "path": "v", "numDimensions": 2, "similarity": "cosine"},
        {"type": "filter", "path": "tenant"},
    ]
}
WORDS = {
    "mappings": {
        "dynamic": False,
        "fields": {
            "words": {"type": "string", "analyzer": "lucene.whitespace"},
            "tenant": {"type": "token"},
        },
    }
}
DOCUMENTS = [
    {"_id": 1, "tenant": "a", "v": [1.0, 0.0], "words": "heron nest"},
    {"_id": 2, "tenant": "a", "v": [0.0, 1.0], "words": "heron heron heron"},
    {"_id": 3, "tenant": "b", "v": [-1.0, 0.0], "words": "nest"},
    {"_id": 4, "tenant": "b", "v": [1.0], "words": "a vector of another dimension"},
    {"_id": 5, "tenant": "b", "words": "no vector"},
]


@pytest.fixture
async def empty(mongo_search_url: str) -> AsyncIterator[Collection]:
    """A collection without search indexes."""
    async with AsyncMongoClient[dict[str, Any]](mongo_search_url) as client:
        database = client[f"test_{uuid4().hex}"]
        await database["c"].insert_many(DOCUMENTS)
        yield database["c"]
        await database["c"].drop()
        await client.drop_database(database.name)


@pytest.fixture
async def collection(empty: Collection) -> Collection:
    """A collection with both search indexes, built."""
    await empty.create_search_indexes(
        [
            SearchIndexModel(VECTORS, name="vectors", type="vectorSearch"),
            SearchIndexModel(WORDS, name="words", type="search"),
        ]
    )
    async with asyncio.timeout(60):
        while not all(index["queryable"] for index in await listed(empty)):
            await asyncio.sleep(0.05)
    return empty


async def listed(collection: Collection) -> list[Any]:
    return await (await collection.list_search_indexes()).to_list()


def near(**options: Any) -> dict[str, Any]:
    stage = {"index": "vectors", "path": "v", "queryVector": [1.0, 0.0]}
    return {"$vectorSearch": {**stage, "numCandidates": 10, "limit": 10} | options}


def worded(operator: dict[str, Any]) -> dict[str, Any]:
    return {"$search": {"index": "words", **operator}}


async def rows(collection: Collection, *stages: dict[str, Any]) -> list[dict[str, Any]]:
    return await (await collection.aggregate(list(stages))).to_list()


async def test_vector_search_scores_by_half_the_cosine_and_a_half(collection: Collection) -> None:
    shape = {"$project": {"_id": 1, "score": {"$meta": "vectorSearchScore"}}}
    found = await rows(collection, near(), shape)
    assert found == [
        {"_id": 1, "score": 1.0},
        {"_id": 2, "score": 0.5},
        {"_id": 3, "score": 0.0},
    ]
    assert await rows(collection, near(limit=1, filter={"tenant": "b"}), shape) == found[2:]
    several = {"$and": [{"tenant": {"$in": ["a", "b"]}}, {"tenant": {"$nin": ["a"]}}]}
    assert await rows(collection, near(filter=several), shape) == found[2:]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"filter": {"words": "heron"}}, "Path 'words' needs to be indexed as filter"),
        ({"filter": {"$and": [{"words": "x"}]}}, "Path 'words' needs to be indexed as filter"),
        ({"filter": {"tenant": {"$in": []}}}, "cannot be empty"),
        ({"filter": {"tenant": {"$regex": "a"}}}, 'unrecognized field "\\$regex"'),
        ({"numCandidates": 9}, "limit should be less than or equal to numCandidates"),
        ({"numCandidates": 10_001}, '"numCandidates" must be within bounds'),
        ({"exact": True}, '"numCandidates" must be omitted when "exact" is set to true'),
        ({"limit": 0}, '"limit" must be positive'),
        ({"queryVector": [1.0]}, "indexed with 2 dimensions but queried with 1"),
        ({"queryVector": [1.0, float("nan")]}, "contains a non-finite value"),
        ({"path": "words"}, "words is not indexed as a vector field"),
        ({"limits": 1}, 'unrecognized field "limits"'),
    ],
)
async def test_a_wrong_vector_search_is_refused(
    collection: Collection, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(OperationFailure, match=message) as refused:
        await rows(collection, near(**options))
    assert refused.value.code == 8


@pytest.mark.parametrize("stage", [near(), worded({"text": {"query": "x", "path": "words"}})])
async def test_a_search_is_the_first_stage(collection: Collection, stage: dict[str, Any]) -> None:
    with pytest.raises(OperationFailure, match="only valid as the first stage") as refused:
        await rows(collection, {"$match": {"tenant": "a"}}, stage)
    assert refused.value.code == 40602


async def test_an_index_that_is_not_there_finds_nothing(empty: Collection) -> None:
    assert await rows(empty, near()) == []
    assert await rows(empty, worded({"text": {"query": "heron", "path": "words"}})) == []
    assert await listed(empty) == []


async def test_an_index_that_is_not_built_is_refused(empty: Collection) -> None:
    await empty.create_search_index(SearchIndexModel(VECTORS, name="vectors", type="vectorSearch"))
    (index,) = await listed(empty)
    assert (index["queryable"], index["status"]) == (False, "BUILDING")
    with pytest.raises(OperationFailure, match="while in state INITIAL_SYNC") as refused:
        await rows(empty, near())
    assert refused.value.code == 8


async def test_text_search_ranks_by_bm25_within_its_clauses(collection: Collection) -> None:
    shape = {"$project": {"_id": 1, "score": {"$meta": "searchScore"}}}
    text = {"text": {"query": "heron nest", "path": "words"}}
    found = await rows(collection, worded(text), shape)
    assert {row["_id"] for row in found} == {1, 2, 3}
    assert [row["score"] for row in found] == sorted((row["score"] for row in found), reverse=True)
    only_a = {"equals": {"path": "tenant", "value": "a"}}
    ours = await rows(collection, worded({"compound": {"must": [text], "filter": [only_a]}}), shape)
    assert ours == [row for row in found if row["_id"] != 3], "a filter does not score"
    others = worded({"compound": {"must": [text], "mustNot": [only_a]}})
    assert await rows(collection, others, shape) == [row for row in found if row["_id"] == 3]
    assert len(await rows(collection, worded(text), {"$limit": 2})) == 2


@pytest.mark.parametrize(
    ("operator", "message"),
    [
        ({"equals": {"path": "words", "value": "x"}}, "Path 'words' needs to be indexed as token"),
        ({"in": {"path": "tenant", "value": []}}, "cannot be empty"),
        ({"compound": {}}, "at least one"),
    ],
)
async def test_a_wrong_text_search_is_refused(
    collection: Collection, operator: dict[str, Any], message: str
) -> None:
    with pytest.raises(OperationFailure, match=message) as refused:
        await rows(collection, worded(operator))
    assert refused.value.code == 8


async def test_the_score_of_the_other_search_is_refused(collection: Collection) -> None:
    with pytest.raises(OperationFailure) as refused:
        await rows(collection, near(), {"$project": {"score": {"$meta": "searchScore"}}})
    assert refused.value.code == 40218


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"numDimensions": 8193}, "numDimensions"),
        ({"similarity": "manhattan"}, "similarity"),
        ({"quantization": "float8"}, "quantization"),
        ({"hnswOptions": {"maxEdges": 8}}, "maxEdges"),
        ({"dimensions": 3}, "dimensions"),
    ],
)
async def test_a_wrong_definition_is_refused(
    empty: Collection, options: dict[str, Any], message: str
) -> None:
    wrong = {"fields": [VECTORS["fields"][0] | options]}
    with pytest.raises(OperationFailure, match=message):
        await empty.create_search_index(SearchIndexModel(wrong, name="w", type="vectorSearch"))


async def test_the_commands_of_indexes_answer_as_mongodbs(collection: Collection) -> None:
    same = SearchIndexModel(VECTORS, name="vectors", type="vectorSearch")
    assert await collection.create_search_index(same) == "vectors"
    other = SearchIndexModel({"fields": VECTORS["fields"][:1]}, name="vectors", type="vectorSearch")
    with pytest.raises(OperationFailure, match="different definition") as refused:
        await collection.create_search_index(other)
    assert refused.value.code == 68
    await collection.drop_search_index("vectors")
    with pytest.raises(OperationFailure) as refused:
        await collection.drop_search_index("vectors")
    assert refused.value.code == 27
    absent = collection.database["absent"]
    with pytest.raises(OperationFailure, match="does not exist") as refused:
        await absent.create_search_index(same)
    assert refused.value.code == 26
    await collection.drop()
    assert await listed(collection) == []
