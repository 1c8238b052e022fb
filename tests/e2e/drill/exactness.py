"""What must be exact of a tenant whenever nothing is under way."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any
from uuid import UUID

import orjson
from numpy.linalg import norm
from sqlalchemy import RowMapping

from planes.data.pipeline.chunk import Chunker, TextChunk
from planes.data.pipeline.extracted import ExtractedText
from planes.shared.analysis import terms
from planes.shared.domain import Chunk, chunk_id, original_key, spans_key, text_key
from planes.shared.embedding import load_tokenizer
from tests.e2e.drill.records import Indexed, Records

_VERSIONS = """
SELECT v.id, v.document_id, v.status, v.visibility, v.language, v.chunk_count, v.lease_owner,
       d.deleted_at, d.published_version_id = v.id AS is_published
FROM document_versions v JOIN documents d ON d.id = v.document_id
WHERE v.tenant_id = :tenant ORDER BY v.id
"""
_LENGTH_TOLERANCE = 1e-3
_TERMS = "SELECT term, chunks FROM term_frequencies WHERE tenant_id = :tenant"
_LANGUAGES = (
    "SELECT language, chunks FROM corpus_languages WHERE tenant_id = :tenant AND chunks > 0"
)


def faults_of(records: Records, tenant_id: str) -> list[str]:
    """Name everything that is not as it must be; the tenant's work has ended."""
    versions = records.rows(_VERSIONS, tenant=UUID(tenant_id))
    chunks = records.chunks(tenant_id)
    return [
        *_faults_of_chunks(records, tenant_id, versions, chunks),
        *_faults_of_counts(records, tenant_id, chunks),
        *_faults_of_files(records, tenant_id, versions),
    ]


def _faults_of_chunks(
    records: Records, tenant_id: str, versions: Sequence[RowMapping], chunks: Sequence[Indexed]
) -> Iterator[str]:
    by_version: dict[UUID, list[Indexed]] = {}
    for each in chunks:
        by_version.setdefault(each.chunk.version_id, []).append(each)
    for version in versions:
        rows = by_version.pop(version["id"], [])
        if version["lease_owner"] is not None:
            yield f"version {version['id']} is still leased"
        if (version["status"] == "ready" and version["visibility"] == "live") != bool(rows):
            yield f"version {version['id']}, {version['visibility']}, has {len(rows)} chunks"
        if version["visibility"] == "live":
            if not version["is_published"] or version["deleted_at"] is not None:
                yield f"version {version['id']} is live and not its document's"
            yield from _faults_of_version(records, tenant_id, version, rows)
    yield from (f"{len(rows)} chunks of no version {one}" for one, rows in by_version.items())


def _faults_of_version(
    records: Records, tenant_id: str, version: RowMapping, rows: Sequence[Indexed]
) -> Iterator[str]:
    place = UUID(tenant_id), version["document_id"], version["id"]
    text = records.path(text_key(*place)).read_text("utf-8")
    spans = orjson.loads(records.path(spans_key(*place)).read_bytes())
    expected = [
        (chunk_id(version["id"], n), n, *_place(chunk))
        for n, chunk in enumerate(_chunker().chunk(ExtractedText.of(text, spans)))
    ]
    found = [(one.chunk.id, one.chunk.ordinal, *_place(one.chunk)) for one in rows]
    if found != expected:
        yield f"version {version['id']}: its {len(rows)} chunks are not those of its text"
    if version["chunk_count"] != len(expected):
        yield f"version {version['id']}: the registry counts {version['chunk_count']} chunks"
    if not all(abs(norm(one.vector) - 1) < _LENGTH_TOLERANCE for one in rows):
        yield f"version {version['id']} has vectors of another length than 1"


def _place(chunk: TextChunk | Chunk) -> tuple[Any, ...]:
    return chunk.start, chunk.end, chunk.page, chunk.heading, chunk.text


@cache
def _chunker() -> Chunker:
    return Chunker(load_tokenizer())


def _faults_of_counts(records: Records, tenant_id: str, chunks: Sequence[Indexed]) -> Iterator[str]:
    recounted: Counter[str] = Counter()
    for chunk in (each.chunk for each in chunks):
        recounted.update(set(terms(f"{chunk.heading}\n{chunk.text}", chunk.language)))
    languages = Counter(each.chunk.language for each in chunks)
    tenant = UUID(tenant_id)
    kept = {row["term"]: row["chunks"] for row in records.rows(_TERMS, tenant=tenant)}
    yield from _differences("term", kept, recounted)
    kept = {row["language"]: row["chunks"] for row in records.rows(_LANGUAGES, tenant=tenant)}
    yield from _differences("language", kept, languages)


def _differences(kind: str, kept: Mapping[str, int], counted: Mapping[str, int]) -> Iterator[str]:
    wrong = [one for one in {*kept, *counted} if kept.get(one) != counted.get(one)]
    if wrong:
        one = min(wrong)
        yield (
            f"the counts of {len(wrong)} {kind}s are wrong: {one!r} is in {counted.get(one, 0)} "
            f"chunks and not in {kept.get(one, 0)}"
        )


def _faults_of_files(
    records: Records, tenant_id: str, versions: Sequence[RowMapping]
) -> Iterator[str]:
    files, allowed, needed = set(records.files(tenant_id)), set[str](), set[str]()
    for version in versions:
        if version["deleted_at"] is None:
            place = UUID(tenant_id), version["document_id"], version["id"]
            own = {original_key(*place), text_key(*place), spans_key(*place)}
            allowed |= own
            needed |= own if version["status"] == "ready" else {original_key(*place)}
    yield from (f"file of nobody: {name}" for name in sorted(files - allowed))
    yield from (f"file is gone: {name}" for name in sorted(needed - files))
