"""A chunk as a document of MongoDB, and back.

Ids are texts: the search indexes of MongoDB filter texts of any version. `_id` is the chunk's own,
so that what is written twice is there once. `terms` are those of `indexed_terms`, with blanks
between them: the analyser `lucene.whitespace` takes them as they are, in every language.
"""

from collections.abc import Sequence
from uuid import UUID

import numpy as np
from bson.binary import VECTOR_SUBTYPE, Binary, BinaryVectorDtype

from planes.shared import indexing
from planes.shared.domain import Candidate, Chunk
from planes.shared.index_ports import Vectors
from planes.shared.indexing import fields_of, indexed_terms
from planes.shared.stores.mongo import Document

VECTOR, TERMS = "embedding", "terms"
FOUND = ("document_id", "version_id")
"""The fields that a search reads, beside the id."""

_HEAD_BYTES = 2  # of a BSON vector: type of its numbers, and padding


def document_of(chunk: Chunk, vector: Vectors, *, in_arrays: bool) -> Document:
    """Return a chunk as it is kept.

    Args:
        chunk: The chunk.
        vector: Of the chunk.
        in_arrays: Whether vectors are arrays of doubles, which every server knows, and not BSON
            binary float32 vectors (subtype 9), a third as large.
    """
    return {
        "_id": str(chunk.id),
        **fields_of(chunk),
        TERMS: " ".join(indexed_terms(chunk)),
        VECTOR: kept_vector(vector, in_arrays=in_arrays),
    }


def chunk_of(document: Document) -> Chunk:
    """Return a chunk as it was written."""
    return indexing.chunk_of(UUID(document["_id"]), document)


def candidate_of(document: Document, dense: float | None, lexical: float | None) -> Candidate:
    """Return what a search found, with the scores of both arms."""
    chunk_id, document_id, version_id = (UUID(document[name]) for name in ("_id", *FOUND))
    return Candidate(chunk_id, document_id, version_id, dense, lexical)


def kept_vector(vector: Vectors, *, in_arrays: bool) -> "Binary | list[float]":
    """Return a vector as documents and queries hold it."""
    if in_arrays:
        return [float(number) for number in vector]
    return Binary.from_vector(vector.astype(np.float32), BinaryVectorDtype.FLOAT32)


def vectors_of(documents: Sequence[Document]) -> Vectors:
    """Return the vectors of documents, one in each row, whichever way they are kept."""
    return np.stack([vector_of(document) for document in documents])


def vector_of(document: Document) -> Vectors:
    """Return the vector of a document as it was written."""
    kept = document[VECTOR]
    if isinstance(kept, Binary) and kept.subtype == VECTOR_SUBTYPE:
        return np.frombuffer(kept, "<f4", offset=_HEAD_BYTES).astype(np.float32, copy=False)
    return np.array(kept, np.float32)


def texts(ids: Sequence[UUID]) -> list[str]:
    """Return ids as documents hold them."""
    return [str(one) for one in ids]


def any_of(values: Sequence[str]) -> object:
    """Return the condition that a field has one of these values.

    A single one is asked for by equality, for which some servers look into their indexes alone.
    """
    return values[0] if len(values) == 1 else {"$in": list(values)}
