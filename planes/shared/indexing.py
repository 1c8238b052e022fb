"""What is derived from chunks, the same whatever store they stand in."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import Any
from uuid import UUID

import orjson

from planes.shared.analysis import terms
from planes.shared.domain import Chunk, Heading
from planes.shared.index_ports import Embedded

_IDS = ("tenant_id", "document_id", "version_id")
CHUNK_FIELDS = tuple(field.name for field in fields(Chunk) if field.name != "id")
"""What `fields_of` gives and `chunk_of` takes."""


def fields_of(chunk: Chunk) -> dict[str, Any]:
    """Return everything that a chunk is, but for its own id, as JSON has it: ids as texts."""
    row = {name: getattr(chunk, name) for name in CHUNK_FIELDS}
    return row | {name: str(row[name]) for name in _IDS}


def chunk_of(chunk_id: UUID, row: Mapping[str, Any]) -> Chunk:
    """Return the chunk of which `fields_of` gave these; what else a row has is left out."""
    kept = {name: row[name] for name in CHUNK_FIELDS}
    return Chunk(id=chunk_id, **kept | {name: UUID(row[name]) for name in _IDS})


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


def headings_of(rows: Iterable[Mapping[str, Any]], *, limit: int) -> list[Heading]:
    """Return the first different headings in reading order, each with its lowest page.

    Args:
        rows: `heading`, `start` and `page` of a version's chunks, in any order.
        limit: At most so many.
    """
    starts: dict[str, int] = {}
    pages: dict[str, int] = {}
    for row in rows:
        heading, page = row["heading"], row["page"]
        if heading:
            starts[heading] = min(row["start"], starts.get(heading, row["start"]))
            if page is not None:
                pages[heading] = min(page, pages.get(heading, page))
    first = sorted(starts, key=lambda heading: (starts[heading], heading))[:limit]
    return [Heading(heading, pages.get(heading)) for heading in first]


def pages_of(rows: Iterable[Mapping[str, Any]]) -> list[tuple[int, int, int]]:
    """Return (page, lowest start, highest end) of the pages of a version's chunks, by page."""
    spans: dict[int, tuple[int, int]] = {}
    for row in rows:
        if row["page"] is not None:
            start, end = spans.get(row["page"], (row["start"], row["end"]))
            spans[row["page"]] = min(start, row["start"]), max(end, row["end"])
    return [(page, *spans[page]) for page in sorted(spans)]


def digest(embedded: Embedded) -> bytes:
    """Return the SHA-256 of everything that a chunk is, its ids and its vector's bits included."""
    chunk, vector = embedded
    ids = (chunk.id, chunk.tenant_id, chunk.document_id, chunk.version_id)
    place = (chunk.ordinal, chunk.start, chunk.end, chunk.page)
    row = [*map(str, ids), *place, chunk.language, chunk.heading, chunk.text]
    return hashlib.sha256(orjson.dumps(row) + vector.astype("<f4").tobytes()).digest()
