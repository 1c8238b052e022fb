"""Writes versions' chunks where search finds them, still hidden."""

from collections.abc import Iterable, Mapping, Sequence
from uuid import UUID

import numpy as np

from planes.data.pipeline.batch import Vectors
from planes.data.pipeline.chunk import TextChunk
from planes.data.pipeline.registry import Registry
from planes.data.pipeline.work import Work, by_tenant
from planes.shared.domain import Chunk, chunk_id
from planes.shared.errors import Unavailable
from planes.shared.stores.postgres_chunks import PostgresChunks


async def index_versions(
    works: Sequence[Work],
    chunks: Mapping[UUID, Sequence[TextChunk]],
    vectors: Mapping[UUID, Vectors],
    *,
    registry: Registry,
    store: PostgresChunks,
) -> list[Work]:
    """Replace the chunks of versions; no search shows them before the publication.

    Args:
        works: Of one generation.
        chunks: By version; each at least one.
        vectors: By version, shape (chunks, dimension of the generation), unit length.
        registry: Told how many chunks and which terms each version has.
        store: Where the chunks go.

    Returns:
        Those that the worker still holds; of the others nothing is written.

    Raises:
        Unavailable: A store does not answer, or does not show what was written.
    """
    held = await registry.hide(works)
    written = [work for work in works if work.version_id in held]
    for _, own in by_tenant(written):
        rows = [chunk for work in own for chunk in domain_chunks(work, chunks[work.version_id])]
        arrays = np.concatenate([vectors[work.version_id] for work in own])
        generation = own[0].generation
        terms = await store.replace_versions(rows, arrays, generation=generation)
        await registry.count_terms(own, terms)
        shown = await count_shown(own, store=store)
        lost = [work for work in own if shown.get(work.version_id) != work.chunk_count]
        if lost:
            raise Unavailable(f"The index does not show the chunks of {len(lost)} documents.")
    return written


async def count_shown(works: Iterable[Work], *, store: PostgresChunks) -> dict[UUID, int]:
    """Return how many chunks the index shows of each version; one without any is absent."""
    shown: dict[UUID, int] = {}
    for tenant_id, own in by_tenant(works):
        ids = [work.version_id for work in own]
        shown |= await store.count_versions(tenant_id, ids, generation=own[0].generation)
    return shown


def domain_chunks(work: Work, chunks: Sequence[TextChunk]) -> list[Chunk]:
    """Return the chunks as the stores keep them, with ids that a repetition gives again."""
    return [
        Chunk(
            id=chunk_id(work.version_id, ordinal),
            tenant_id=work.tenant_id,
            document_id=work.document_id,
            version_id=work.version_id,
            ordinal=ordinal,
            start=chunk.start,
            end=chunk.end,
            page=chunk.page,
            heading=chunk.heading,
            text=chunk.text,
            language=work.language,
        )
        for ordinal, chunk in enumerate(chunks)
    ]
