"""`$vectorSearch` of a MongoDB double: exact, over the documents of the server behind.

https://www.mongodb.com/docs/vector-search/query/aggregation-stages/vector-search-stage/
Every search visits every vector that the filter lets pass, so its recall is 1, which an index of
MongoDB's does not promise. Wording and codes of refusals are those of mongot behind mongod.
"""

import heapq
from collections.abc import Iterator
from typing import Any

import numpy as np
from bson.binary import VECTOR_SUBTYPE, Binary
from numpy.typing import NDArray
from pymongo.asynchronous.collection import AsyncCollection

from tests.servers.mongo_search_indexes import SearchIndexes, is_ready
from tests.servers.mongo_wire import CommandError, Document

_MOST_CANDIDATES = 10_000
_FLOAT32 = b"\x27\x00"
_OPTIONS = {
    "index",
    "path",
    "queryVector",
    "numCandidates",
    "limit",
    "filter",
    "exact",
    "explainOptions",
}
_LOGICAL = {"$and", "$or", "$nor"}
_COMPARISONS = {"$eq", "$ne", "$in", "$nin", "$gt", "$gte", "$lt", "$lte", "$exists", "$not"}

Vector = NDArray[np.float32]
Scored = list[tuple[float, Document]]


def refusal(message: str) -> CommandError:
    """Return how mongod passes on what mongot refuses."""
    whole = f"PlanExecutor error during aggregation :: caused by :: {message}"
    return CommandError(8, "UnknownError", whole)


async def vector_search(
    collection: AsyncCollection[Document], stage: Document, indexes: SearchIndexes
) -> Scored:
    """Return the closest documents with their scores, best first; none where there is no index.

    Raises:
        CommandError: What MongoDB refuses.
    """
    _check_options(stage)
    index = await indexes.find(collection.full_name, stage["index"])
    if index is None or index["type"] != "vectorSearch":
        return []
    if not is_ready(index):
        message = f"cannot query vector index {stage['index']} while in state INITIAL_SYNC"
        raise refusal(message)
    fields = index["definition"]["fields"]
    paths = {field["path"] for field in fields if field["type"] == "filter"}
    _check_filter(stage.get("filter", {}), paths)
    question = vector_of(stage["queryVector"])
    vector = _field_of(fields, stage["path"], question)
    best = []
    async for document in collection.find(stage.get("filter", {})):
        held = vector_of(document.get(stage["path"]))
        if held is not None and len(held) == len(question):
            score = _score(held, question, vector["similarity"])
            best.append((score, str(document["_id"]), document))
    best = heapq.nsmallest(stage["limit"], best, key=lambda one: (-one[0], one[1]))
    return [(score, document) for score, _, document in best]


def vector_of(value: Any) -> Vector | None:
    """Return a vector as MongoDB indexes it: BSON binary float32, or an array; None for others."""
    if isinstance(value, Binary) and value.subtype == VECTOR_SUBTYPE:
        return np.frombuffer(value[2:], "<f4") if value[:2] == _FLOAT32 else None
    if isinstance(value, list) and value and all(isinstance(each, float) for each in value):
        return np.array(value, np.float32)
    return None


def _check_options(stage: Document) -> None:
    for flaw in _flaws(stage):
        raise refusal(flaw)


def _flaws(stage: Document) -> Iterator[str]:
    for option in sorted(set(stage) - _OPTIONS):
        yield f'unrecognized field "{option}"'
    for option in ("index", "path", "limit"):
        if option not in stage:
            yield f'"{option}" is required'
    if stage["limit"] < 1:
        yield '"limit" must be positive'
    if vector_of(stage.get("queryVector")) is None:
        yield "Exactly one and only one of query and queryVector can be present"
    elif not np.all(np.isfinite(vector_of(stage["queryVector"]))):
        yield "'queryVector' contains a non-finite value (Infinity or NaN)"
    yield from _flaws_of_candidates(stage, stage.get("numCandidates"))


def _flaws_of_candidates(stage: Document, candidates: int | None) -> Iterator[str]:
    if stage.get("exact", False):
        if candidates is not None:
            yield '"numCandidates" must be omitted when "exact" is set to true'
    elif candidates is None:
        yield "numCandidates is required for approximate vector search"
    elif not 1 <= candidates <= _MOST_CANDIDATES:
        yield f'"numCandidates" must be within bounds [1..{_MOST_CANDIDATES}]'
    elif stage["limit"] > candidates:
        yield "limit should be less than or equal to numCandidates"


def _check_filter(wanted: Document, paths: set[str]) -> None:
    for name, condition in wanted.items():
        if name in _LOGICAL:
            for clause in condition:
                _check_filter(clause, paths)
        elif name.startswith("$"):
            raise refusal(f'"filter" unrecognized field "{name}"')
        elif name not in paths:
            raise refusal(f"Path '{name}' needs to be indexed as filter")
        elif isinstance(condition, dict):
            _check_comparisons(name, condition)


def _check_comparisons(path: str, condition: Document) -> None:
    for operator, value in condition.items():
        if operator not in _COMPARISONS:
            raise refusal(f'"filter.{path}" unrecognized field "{operator}"')
        if operator in {"$in", "$nin"} and not value:
            raise refusal(f'"filter.{path}.{operator}" cannot be empty')


def _field_of(fields: list[Document], path: str, question: Vector) -> Document:
    for field in fields:
        if field["type"] == "vector" and field["path"] == path:
            indexed, asked = field["numDimensions"], len(question)
            if indexed != asked:
                raise refusal(
                    f"vector field is indexed with {indexed} dimensions but queried with {asked}"
                )
            return field
    raise refusal(f"{path} is not indexed as a vector field")


def _score(held: Vector, question: Vector, similarity: str) -> float:
    """Return the documented score between 0 and 1."""
    if similarity == "euclidean":
        return float(1 / (1 + np.sum((held - question) ** 2)))
    product = float(held @ question)
    if similarity == "cosine":
        product /= float(np.linalg.norm(held) * np.linalg.norm(question)) or 1.0
    return (1 + product) / 2
