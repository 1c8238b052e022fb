"""What is derived from chunks, the same whatever store they stand in."""

import hashlib
from collections import Counter
from collections.abc import Iterable
from uuid import UUID

import orjson

from planes.shared.analysis import terms
from planes.shared.domain import Chunk
from planes.shared.index_ports import Embedded


def indexed_terms(chunk: Chunk) -> list[str]:
    """Return the terms by which a chunk is found: those of its heading and of its text."""
    return terms(f"{chunk.heading}\n{chunk.text}", chunk.language)


def term_counts(chunks: Iterable[Chunk]) -> dict[UUID, Counter[str]]:
    """Return, by version, in how many of the chunks each term occurs."""
    counts: dict[UUID, Counter[str]] = {}
    for chunk in chunks:
        counts.setdefault(chunk.version_id, Counter()).update(set(indexed_terms(chunk)))
    return counts


def fingerprint(chunk: Chunk) -> str:
    """Return a digest of everything that a chunk is, but for its vector."""
    parts = (chunk.ordinal, chunk.start, chunk.end, chunk.page or 0, chunk.language)
    row = "|".join([*map(str, parts), chunk.heading, chunk.text])
    return hashlib.md5(row.encode(), usedforsecurity=False).hexdigest()


def digest(embedded: Embedded) -> bytes:
    """Return the SHA-256 of everything that a chunk is, its ids and its vector's bits included."""
    chunk, vector = embedded
    ids = (chunk.id, chunk.tenant_id, chunk.document_id, chunk.version_id)
    place = (chunk.ordinal, chunk.start, chunk.end, chunk.page)
    row = [*map(str, ids), *place, chunk.language, chunk.heading, chunk.text]
    return hashlib.sha256(orjson.dumps(row) + vector.astype("<f4").tobytes()).digest()
