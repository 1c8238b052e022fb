"""What must hold of a batch before it is published; every function names the documents at fault."""

from collections.abc import Iterable, Sequence
from uuid import UUID

import numpy as np

from planes.data.pipeline.batch import BatchFiles, Vectors
from planes.data.pipeline.chunk import TextChunk
from planes.data.pipeline.index import count_shown
from planes.data.pipeline.registry import Registry
from planes.data.pipeline.work import Work, by_part
from planes.shared.domain import chunk_id
from planes.shared.index_ports import ChunkWriter

NORM_TOLERANCE = 1e-3
Findings = dict[str, list[Work]]


async def check_chunks(files: BatchFiles, works: Iterable[Work]) -> Findings:
    """Check that no chunk is blank and that offsets give the text."""
    findings: Findings = {"no_blank_chunk": [], "offsets_give_the_text": []}
    for part, some in by_part(works):
        chunks = await files.chunks(part)
        for work in some:
            own = chunks.get(work.version_id, [])
            if has_blank_chunk(own):
                findings["no_blank_chunk"].append(work)
            if has_wrong_offset(await files.text(work), own):
                findings["offsets_give_the_text"].append(work)
    return findings


async def check_vectors(files: BatchFiles, works: Iterable[Work]) -> Findings:
    """Check that every chunk has a vector of length 1."""
    findings: Findings = {"vectors_have_length_one": []}
    for part, some in by_part(works):
        vectors = await files.vectors(part)
        for work in some:
            own = vectors.get(work.version_id)
            if own is None or len(own) != work.chunk_count or has_wrong_norm(own):
                findings["vectors_have_length_one"].append(work)
    return findings


async def check_index(
    files: BatchFiles, works: Iterable[Work], *, registry: Registry, store: ChunkWriter
) -> Findings:
    """Check that registry and index count the same chunks, none of them twice."""
    findings: Findings = {"registry_and_index_agree": [], "ids_are_unique": []}
    ids: set[UUID] = set()
    for part, some in by_part(works):
        counted = await registry.chunk_counts(some)
        shown = await count_shown(some, store=store)
        chunks = await files.chunks(part)
        for work in some:
            counts = {counted.get(work.version_id), shown.get(work.version_id)}
            if counts != {work.chunk_count}:
                findings["registry_and_index_agree"].append(work)
            own = {chunk_id(work.version_id, n) for n in range(len(chunks[work.version_id]))}
            if len(own) != work.chunk_count or ids & own:
                findings["ids_are_unique"].append(work)
            ids |= own
    return findings


def has_blank_chunk(chunks: Sequence[TextChunk]) -> bool:
    """Whether there is no chunk, or one without visible characters."""
    return not chunks or any(not chunk.text.strip() for chunk in chunks)


def has_wrong_offset(text: str, chunks: Sequence[TextChunk]) -> bool:
    """Whether a chunk's offsets do not give its text."""
    return any(text[chunk.start : chunk.end] != chunk.text for chunk in chunks)


def has_wrong_norm(vectors: Vectors) -> bool:
    """Whether a vector's length is not 1 within 0.001, or is no number."""
    lengths = np.linalg.norm(vectors, axis=1)
    return not bool(np.all(np.abs(lengths - 1) <= NORM_TOLERANCE))
