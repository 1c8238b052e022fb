"""A chunk as a point of Qdrant, and back; and what narrows a query to a scope."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from uuid import UUID

import numpy as np
from qdrant_client import models

from planes.shared import indexing
from planes.shared.domain import Candidate, Chunk, SearchScope
from planes.shared.index_ports import Vectors
from planes.shared.indexing import fields_of, indexed_terms
from planes.shared.lexical import sparse_vector, term_weights

DENSE, WORDS = "dense", "words"
"""The two named vectors of a point."""

TENANT, DOCUMENT, VERSION = "tenant_id", "document_id", "version_id"
NAMED = [DOCUMENT, VERSION]
"""The fields that a search asks for."""


def point_of(chunk: Chunk, vector: Vectors) -> models.PointStruct:
    """Return a chunk with its vector and with the weights of its terms."""
    weights = term_weights(indexed_terms(chunk))
    return models.PointStruct(
        id=str(chunk.id),
        vector={DENSE: vector.tolist(), WORDS: sparse(weights)},
        payload=fields_of(chunk),
    )


def chunk_of(point: models.ScoredPoint | models.Record) -> Chunk:
    """Return a chunk as it was written."""
    return indexing.chunk_of(UUID(str(point.id)), payload_of(point))


def candidate_of(
    point: models.ScoredPoint, dense: float | None, lexical: float | None
) -> Candidate:
    """Return what a search found, with the scores of both arms."""
    payload = payload_of(point)
    document_id, version_id = UUID(payload[DOCUMENT]), UUID(payload[VERSION])
    return Candidate(UUID(str(point.id)), document_id, version_id, dense, lexical)


def payload_of(point: models.ScoredPoint | models.Record) -> Mapping[str, Any]:
    """Return what a point holds besides its vectors, as far as it was asked for."""
    return point.payload or {}


def dense_vector_of(point: models.Record) -> Vectors:
    """Return the vector of a chunk as it was written."""
    assert isinstance(point.vector, dict)  # noqa: S101 - it was asked for by name
    return np.array(point.vector[DENSE], dtype=np.float32)


def sparse(weights: Mapping[str, float]) -> models.SparseVector:
    """Return the weights of terms as a vector: of a chunk, or a question's frequencies."""
    indices, values = sparse_vector(weights.items())
    return models.SparseVector(indices=indices, values=values)


def one_of(key: str, ids: Iterable[UUID]) -> models.FieldCondition:
    """Return the condition that a field holds one of several ids."""
    return models.FieldCondition(key=key, match=models.MatchAny(any=[str(each) for each in ids]))


def belongs_to(tenant_id: UUID, *conditions: models.Condition) -> models.Filter:
    """Return a filter on a tenant's points, for which further conditions hold."""
    tenant = models.FieldCondition(key=TENANT, match=models.MatchValue(value=str(tenant_id)))
    return models.Filter(must=[tenant, *conditions])


def has_id(ids: Iterable[UUID]) -> models.HasIdCondition:
    """Return the condition that a point is one of several."""
    return models.HasIdCondition(has_id=[str(each) for each in ids])


def within(scope: SearchScope, document_ids: Sequence[UUID] | None) -> models.Filter:
    """Return a filter on what a search may see.

    Args:
        scope: Its tenant and its hidden versions.
        document_ids: The documents that are meant, all of the scope applied; None: all.
    """
    documents = [] if document_ids is None else [one_of(DOCUMENT, document_ids)]
    scoped = belongs_to(scope.tenant_id, *documents)
    if scope.hidden_versions:
        scoped.must_not = [one_of(VERSION, scope.hidden_versions)]
    return scoped


def holds_one_of(spans: Iterable[tuple[UUID, int, int]]) -> models.Filter:
    """Return a filter on chunks that hold the whole of at least one (version, start, end)."""
    return models.Filter(
        should=[
            models.Filter(
                must=[
                    one_of(VERSION, [version_id]),
                    models.FieldCondition(key="start", range=models.Range(lte=start)),
                    models.FieldCondition(key="end", range=models.Range(gte=end)),
                ]
            )
            for version_id, start, end in spans
        ]
    )
