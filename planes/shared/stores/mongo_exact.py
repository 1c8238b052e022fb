"""One search over a collection that no index helps: every chunk in scope is looked at.

For servers without `$vectorSearch`. Recall is 1; the time grows with the tenant's chunks, which is
right up to about 100,000 of them. Memory stays at one batch and the best.
"""

import asyncio
import heapq
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import chain

from planes.shared.domain import Arms, SearchScope
from planes.shared.index_ports import Vectors
from planes.shared.lexical import lexical_score, rarest, term_weights
from planes.shared.stores.mongo import Collection, Document, Mongo
from planes.shared.stores.mongo_documents import (
    FOUND,
    TERMS,
    VECTOR,
    candidate_of,
    texts,
    vectors_of,
)
from planes.shared.stores.postgres_search_registry import SearchedCorpus

_BATCH = 1000
_READ = dict.fromkeys((*FOUND, TERMS, VECTOR), 1)


class ExactSearch:
    """Searches a collection by reading what the scope holds of it."""

    def __init__(self, mongo: Mongo) -> None:
        """Store the server."""
        self._mongo = mongo

    async def search(
        self,
        collection: Collection,
        vector: Vectors,
        corpus: SearchedCorpus,
        *,
        scope: SearchScope,
        depth: int,
    ) -> Arms:
        """Return the union of both arms, every candidate with both scores.

        The lexical score is that of `planes/shared/lexical.py`, with the tenant's frequencies.
        """
        best = _Best(vector, corpus.weights, depth)
        with self._mongo.waiting():
            found = collection.find(_in_scope(corpus, scope), _READ, batch_size=_BATCH)
            async with found as cursor:
                while batch := await cursor.to_list(_BATCH):
                    await asyncio.to_thread(best.take, batch)
        return best.arms()


@dataclass(frozen=True, slots=True)
class _Scored:
    document: Document
    dense: float
    lexical: float | None  # None: holds none of the rarest terms

    @property
    def by_meaning(self) -> tuple[float, str]:
        return -self.dense, self.document["_id"]

    @property
    def by_words(self) -> tuple[float, str]:
        return -(self.lexical or 0.0), self.document["_id"]


@dataclass(slots=True)
class _Best:
    """The best of what it has taken, `depth` in each arm; of equals those with the lowest ids."""

    vector: Vectors
    weights: Mapping[str, float]
    depth: int
    dense: list[_Scored] = field(default_factory=list)
    lexical: list[_Scored] = field(default_factory=list)

    def take(self, documents: list[Document]) -> None:
        """Score more documents."""
        needed = set(rarest(self.weights))
        cosines = vectors_of(documents) @ self.vector
        scored = [
            _Scored(document, float(cosine), self._score(document, needed))
            for document, cosine in zip(documents, cosines, strict=True)
        ]
        by_words = (one for one in scored if one.lexical is not None)
        self.dense = heapq.nsmallest(
            self.depth, chain(self.dense, scored), key=lambda one: one.by_meaning
        )
        self.lexical = heapq.nsmallest(
            self.depth, chain(self.lexical, by_words), key=lambda one: one.by_words
        )

    def arms(self) -> Arms:
        """Return the candidates; those of the dense arm alone are scored by all terms too."""
        found = {one.document["_id"]: one for one in chain(self.dense, self.lexical)}
        return Arms(
            tuple(
                candidate_of(
                    one.document,
                    dense=one.dense,
                    lexical=self._of_all_terms(one.document)
                    if one.lexical is None
                    else one.lexical,
                )
                for one in found.values()
            )
        )

    def _score(self, document: Document, needed: set[str]) -> float | None:
        if needed.isdisjoint(document[TERMS].split()):
            return None
        return self._of_all_terms(document)

    def _of_all_terms(self, document: Document) -> float:
        return lexical_score(term_weights(document[TERMS].split()), self.weights)


def _in_scope(corpus: SearchedCorpus, scope: SearchScope) -> Document:
    wanted: Document = {"tenant_id": str(scope.tenant_id)}
    if scope.hidden_versions:
        wanted["version_id"] = {"$nin": texts(scope.hidden_versions)}
    if corpus.document_ids is not None:
        wanted["document_id"] = {"$in": texts(corpus.document_ids)}
    return wanted
