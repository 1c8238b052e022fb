"""Chunks with their vectors as lines of JSON, read from any store and written to any other."""

import base64
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import BinaryIO
from uuid import UUID

import numpy as np
import orjson

from planes.shared.domain import Chunk, chunk_id
from planes.shared.errors import Conflict
from planes.shared.index_ports import ChunkStore, Vectors
from planes.shared.indexing import chunk_of, digest, fields_of
from services.operations.lacks import Lacks
from services.operations.work_lists import Version

_AT_ONCE = 500
_FLOAT32 = "<f4"  # the same on every machine


async def write_chunks(
    store: ChunkStore,
    versions: Sequence[Version],
    output: BinaryIO,
    *,
    generation: int,
    lacks: Lacks,
) -> int:
    """Write the chunks of a tenant's searchable versions, and return how many there should be.

    Args:
        store: The index.
        versions: Of one tenant.
        output: Gets a line for each chunk.
        generation: The searched one.
        lacks: Told of which documents the store holds others than the registry counts.

    Raises:
        Unavailable: The store does not answer.
    """
    live = [version for version in versions if version.is_live]
    for first in range(0, len(live), _AT_ONCE):
        some = live[first : first + _AT_ONCE]
        ids = [version.version_id for version in some]
        found: Counter[UUID] = Counter()
        async for page in store.embedded_chunks(versions[0].tenant_id, ids, generation=generation):
            output.writelines(_line(*each) for each in page)
            found.update(chunk.version_id for chunk, _ in page)
        for version in some:
            if (count := found[version.version_id]) != version.chunks:
                lack = f"the index holds {count} chunks, and the registry counts {version.chunks}"
                lacks.note(version.tenant_id, version.subject, lack)
    return sum(version.chunks for version in live)


async def restore_chunks(
    store: ChunkStore, tenant_id: UUID, lines: Iterable[bytes], *, generation: int
) -> int:
    """Write chunks to a store, and return how many; to repeat it changes nothing.

    Raises:
        Unavailable: The store does not answer.
    """
    count = 0
    for chunks, vectors in _batches(tenant_id, lines):
        await store.add_chunks(chunks, vectors, generation=generation)
        count += len(chunks)
    return count


async def compare_chunks(
    store: ChunkStore, tenant_id: UUID, lines: Iterable[bytes], *, generation: int
) -> None:
    """Make sure that a store holds and shows the same chunks and vectors, to the last bit.

    Raises:
        Conflict: It does not.
        Unavailable: The store does not answer.
    """
    wanted: dict[UUID, _Sum] = defaultdict(_Sum)
    for chunk, vector in (_parsed(tenant_id, line) for line in lines):
        wanted[chunk.version_id].add(chunk, vector)
    versions = list(wanted)
    for first in range(0, len(versions), _AT_ONCE):
        some = versions[first : first + _AT_ONCE]
        found: dict[UUID, _Sum] = defaultdict(_Sum)
        async for page in store.embedded_chunks(tenant_id, some, generation=generation):
            for chunk, vector in page:
                found[chunk.version_id].add(chunk, vector)
        if found != {version: wanted[version] for version in some}:
            raise Conflict(f"The index holds other chunks of tenant {tenant_id} than the backup.")
        shown = await store.count_versions(tenant_id, some, generation=generation)
        if shown != {version: wanted[version].chunks for version in some}:
            raise Conflict(f"The index does not show all chunks of tenant {tenant_id}.")


@dataclass(slots=True)
class _Sum:
    """How many chunks, and the sum of their digests, which no order changes."""

    chunks: int = 0
    digests: int = 0

    def add(self, chunk: Chunk, vector: Vectors) -> None:
        self.chunks += 1
        self.digests += int.from_bytes(digest((chunk, vector)))


def _batches(tenant_id: UUID, lines: Iterable[bytes]) -> Iterator[tuple[list[Chunk], Vectors]]:
    rows = (_parsed(tenant_id, line) for line in lines)
    while batch := list(islice(rows, _AT_ONCE)):
        chunks, vectors = zip(*batch, strict=True)
        yield list(chunks), np.stack(vectors)


def _line(chunk: Chunk, vector: Vectors) -> bytes:
    row = fields_of(chunk)
    row["vector"] = base64.b64encode(vector.astype(_FLOAT32).tobytes()).decode()
    return orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE)


def _parsed(tenant_id: UUID, line: bytes) -> tuple[Chunk, Vectors]:
    row = {**orjson.loads(line), "tenant_id": str(tenant_id)}
    vector = np.frombuffer(base64.b64decode(row["vector"]), _FLOAT32).astype(np.float32)
    return chunk_of(chunk_id(UUID(row["version_id"]), row["ordinal"]), row), vector
