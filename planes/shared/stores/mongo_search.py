"""One search as aggregations of MongoDB: `$vectorSearch` and `$search`, each within the scope.

https://www.mongodb.com/docs/vector-search/query/aggregation-stages/vector-search-stage/
https://www.mongodb.com/docs/search/query/operators-collectors/compound/
`$rankFusion` would hide the scores, which our own fusion needs.
"""

import asyncio
from collections.abc import Mapping
from typing import Any

from planes.shared.domain import Arms, SearchScope
from planes.shared.index_ports import Vectors
from planes.shared.lexical import rarest
from planes.shared.stores.mongo import Collection, Document, Mongo
from planes.shared.stores.mongo_documents import (
    FOUND,
    TERMS,
    VECTOR,
    candidate_of,
    kept_vector,
    texts,
    vector_of,
)
from planes.shared.stores.mongo_indexes import TEXT_INDEX, VECTOR_INDEX
from planes.shared.stores.postgres_search_registry import SearchedCorpus

MOST_CANDIDATES = 10_000
"""What `$vectorSearch` takes as `numCandidates`, and so as `limit`."""

_SCORE = "score"


class IndexedSearch:
    """Searches a collection by its two search indexes."""

    def __init__(self, mongo: Mongo, *, num_candidates: int, in_arrays: bool) -> None:
        """Store how to search.

        Args:
            mongo: The server.
            num_candidates: Nearest neighbours that a search looks at, where its depth is not more.
            in_arrays: Whether vectors are arrays of doubles.
        """
        self._mongo = mongo
        self._num_candidates = num_candidates
        self._in_arrays = in_arrays

    async def search(
        self,
        collection: Collection,
        vector: Vectors,
        corpus: SearchedCorpus,
        *,
        scope: SearchScope,
        depth: int,
    ) -> Arms:
        """Return the union of both arms.

        The dense score is the cosine, up to what quantisation loses for candidates of that arm. The
        lexical one is that of MongoDB's BM25, whose frequencies are those of all tenants; of a
        chunk that the lexical arm did not find it is None.
        """
        near, worded = await asyncio.gather(
            self._rows(collection, self.dense(vector, corpus, scope, depth)),
            self._rows(collection, lexical(corpus, scope, depth)),
        )
        found = {row["_id"]: candidate_of(row, _cosine(row[_SCORE]), None) for row in near}
        for row in worded:
            known = found.get(row["_id"])
            cosine = float(vector_of(row) @ vector) if known is None else known.dense
            found[row["_id"]] = candidate_of(row, cosine, float(row[_SCORE]))
        return Arms(tuple(found.values()))

    def dense(
        self, vector: Vectors, corpus: SearchedCorpus, scope: SearchScope, depth: int
    ) -> list[Document]:
        """Return the pipeline of the dense arm."""
        search = {
            "index": VECTOR_INDEX,
            "path": VECTOR,
            "queryVector": kept_vector(vector, in_arrays=self._in_arrays),
            "numCandidates": max(self._num_candidates, depth),
            "limit": depth,
            "filter": _vector_filter(corpus, scope),
        }
        return [{"$vectorSearch": search}, _projection("vectorSearchScore")]

    async def counts(
        self, collection: Collection, tenant_id: str, stored: Mapping[str, int], probe: Vectors
    ) -> dict[str, int]:
        """Return how many chunks of each version both indexes show; one without any is absent.

        Args:
            collection: The generation.
            tenant_id: Whose versions.
            stored: How many chunks are stored of each version: 10,000 together at most, or one
                version with more, of which 10,000 are counted.
            probe: Any vector of the generation's dimension.
        """
        versions, limit = {"$in": list(stored)}, min(sum(stored.values()), MOST_CANDIDATES)
        vector_search = {
            "index": VECTOR_INDEX,
            "path": VECTOR,
            "queryVector": kept_vector(probe, in_arrays=self._in_arrays),
            "exact": True,
            "limit": limit,
            "filter": {"$and": [{"tenant_id": tenant_id}, {"version_id": versions}]},
        }
        by_words = [_equals("tenant_id", tenant_id), _one_of("version_id", list(stored))]
        count = {"$group": {"_id": "$version_id", "chunks": {"$sum": 1}}}
        shown = [
            await self._rows(collection, [{"$vectorSearch": vector_search}, count]),
            await self._rows(
                collection,
                [
                    {"$search": {"index": TEXT_INDEX, "compound": {"filter": by_words}}},
                    {"$limit": limit},
                    count,
                ],
            ),
        ]
        near, worded = ({row["_id"]: row["chunks"] for row in rows} for rows in shown)
        return {version: min(near[version], worded[version]) for version in near.keys() & worded}

    async def _rows(self, collection: Collection, pipeline: list[Document]) -> list[Document]:
        if not pipeline:
            return []
        with self._mongo.waiting():
            return await (await collection.aggregate(pipeline)).to_list()


def lexical(corpus: SearchedCorpus, scope: SearchScope, depth: int) -> list[Document]:
    """Return the pipeline of the lexical arm; empty where the corpus knows no term.

    One of the rarest terms must be there; all make the score.
    """
    needed = rarest(corpus.weights)
    if not needed:
        return []
    others = sorted(set(corpus.weights) - set(needed))
    compound: Document = {
        "must": [_text(needed)],
        "filter": [_equals("tenant_id", str(scope.tenant_id))],
    }
    if others:
        compound["should"] = [_text(others)]
    if corpus.document_ids is not None:
        compound["filter"].append(_one_of("document_id", texts(corpus.document_ids)))
    if scope.hidden_versions:
        compound["mustNot"] = [_one_of("version_id", texts(scope.hidden_versions))]
    return [
        {"$search": {"index": TEXT_INDEX, "compound": compound}},
        {"$limit": depth},
        _projection("searchScore", VECTOR),
    ]


def _vector_filter(corpus: SearchedCorpus, scope: SearchScope) -> Document:
    conditions: list[Document] = [{"tenant_id": str(scope.tenant_id)}]
    if scope.hidden_versions:
        conditions.append({"version_id": {"$nin": texts(scope.hidden_versions)}})
    if corpus.document_ids is not None:
        conditions.append({"document_id": {"$in": texts(corpus.document_ids)}})
    return {"$and": conditions}


def _projection(score: str, *more: str) -> Document:
    fields: dict[str, Any] = dict.fromkeys((*FOUND, *more), 1)
    return {"$project": {**fields, _SCORE: {"$meta": score}}}


def _cosine(score: float) -> float:
    """Return the cosine of which MongoDB makes the score (1 + cosine) / 2."""
    return 2 * float(score) - 1


def _text(terms: list[str]) -> Document:
    return {"text": {"path": TERMS, "query": " ".join(terms)}}


def _equals(path: str, value: str) -> Document:
    return {"equals": {"path": path, "value": value}}


def _one_of(path: str, values: list[str]) -> Document:
    return {"in": {"path": path, "value": values}}
