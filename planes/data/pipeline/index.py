"""Writes a version's chunks where search finds them, still hidden, and publishes them."""

from collections import Counter
from collections.abc import Sequence

from planes.data.pipeline.batch import Vectors
from planes.data.pipeline.chunk import TextChunk
from planes.data.pipeline.registry import Registry
from planes.data.pipeline.work import Work
from planes.shared.domain import Chunk, chunk_id
from planes.shared.errors import Unavailable
from planes.shared.stores.postgres_chunks import PostgresChunks, indexed_terms


async def index_version(
    work: Work,
    chunks: Sequence[Chunk],
    vectors: Vectors,
    *,
    registry: Registry,
    store: PostgresChunks,
) -> bool:
    """Replace a version's chunks; no search shows them before the publication.

    Returns:
        False where the worker no longer holds the version; nothing is written then.

    Raises:
        Unavailable: A store does not answer, or does not show what was written.
    """
    if not await registry.hide(work):
        return False
    await store.replace_version(work.version_id, chunks, vectors, generation=work.generation)
    in_chunks = Counter(term for chunk in chunks for term in set(indexed_terms(chunk)))
    await registry.count_terms(work, in_chunks)
    shown = await store.count_version(work.tenant_id, work.version_id, generation=work.generation)
    if shown != len(chunks):
        raise Unavailable(f"The index shows {shown} of {len(chunks)} chunks.")
    return True


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
