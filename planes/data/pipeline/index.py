"""Writes versions' chunks where search finds them, still hidden."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from uuid import UUID

import numpy as np

from planes.data.pipeline.batch import Vectors
from planes.data.pipeline.chunk import TextChunk
from planes.data.pipeline.registry import Registry
from planes.data.pipeline.work import Work, by_tenant
from planes.shared.domain import Chunk, chunk_id
from planes.shared.errors import Unavailable
from planes.shared.index_ports import ChunkWriter
from planes.shared.indexing import term_counts

_AT_ONCE = 2000  # chunks: the largest document neither holds others up nor exceeds a deadline


class Indexer:
    """Writes chunks into the index under the eyes of the registry."""

    def __init__(
        self, registry: Registry, store: ChunkWriter, between: Callable[[], Awaitable[None]]
    ) -> None:
        """Store the parts.

        Args:
            registry: Told how many chunks and which terms each version has.
            store: Where the chunks go.
            between: Awaited now and then in the midst of very many chunks.
        """
        self._registry = registry
        self._store = store
        self._between = between

    async def index(
        self,
        works: Sequence[Work],
        chunks: Mapping[UUID, Sequence[TextChunk]],
        vectors: Mapping[UUID, Vectors],
    ) -> list[Work]:
        """Replace the chunks of versions; no search shows them before the publication.

        Args:
            works: Of one generation.
            chunks: By version; each at least one.
            vectors: By version, shape (chunks, dimension of the generation), unit length.

        Returns:
            Those that the worker still holds; the others are not to be published.

        Raises:
            Unavailable: A store does not answer, or does not show what was written.
        """
        held = await self._registry.hide(works)
        written: list[Work] = []
        for group in _groups([work for work in works if work.version_id in held]):
            rows = [c for work in group for c in domain_chunks(work, chunks[work.version_id])]
            arrays = np.concatenate([vectors[work.version_id] for work in group])
            if await self._write(group, rows, arrays):
                counts = await asyncio.to_thread(term_counts, rows)
                await self._registry.count_terms(group, counts)
                await self._check(group)
                written += group
        return written

    async def _write(
        self, group: Sequence[Work], chunks: Sequence[Chunk], vectors: Vectors
    ) -> bool:
        """Return whether all was written: not where a large document was given up on the way."""
        generation, some = group[0].generation, slice(0, _AT_ONCE)
        await self._store.replace_versions(chunks[some], vectors[some], generation=generation)
        for first in range(_AT_ONCE, len(chunks), _AT_ONCE):
            await self._between()
            if not await self._registry.hide(group):  # cancelled, or the lease ran out
                return False
            some = slice(first, first + _AT_ONCE)
            await self._store.add_chunks(chunks[some], vectors[some], generation=generation)
        return True

    async def _check(self, works: Sequence[Work]) -> None:
        shown = await count_shown(works, store=self._store)
        lost = [work for work in works if shown.get(work.version_id) != work.chunk_count]
        if lost:
            raise Unavailable(f"The index does not show the chunks of {len(lost)} documents.")


def _groups(works: Iterable[Work]) -> Iterator[list[Work]]:
    """Yield works of one tenant that have few chunks together, and those of very many alone."""
    for _, own in by_tenant(works):
        group: list[Work] = []
        for work in own:
            if group and sum(each.chunk_count for each in group) + work.chunk_count > _AT_ONCE:
                yield group
                group = []
            group.append(work)
        yield group


async def count_shown(works: Iterable[Work], *, store: ChunkWriter) -> dict[UUID, int]:
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
