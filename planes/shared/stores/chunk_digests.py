"""What a store holds of versions, told by digests."""

from collections import defaultdict
from collections.abc import Sequence
from contextlib import aclosing
from typing import TypeAlias
from uuid import UUID

from planes.shared.index_ports import ChunkWriter
from planes.shared.indexing import digest

Digests: TypeAlias = dict[UUID, dict[UUID, bytes]]
"""Of chunks with their vectors, by version and id; empty for a version without any."""


async def digests_of(
    store: ChunkWriter, tenant_id: UUID, version_ids: Sequence[UUID], *, generation: int
) -> Digests:
    """Return the digests of versions' chunks.

    Raises:
        Unavailable: The store does not answer.
    """
    digests: Digests = defaultdict(dict)
    found = store.embedded_chunks(tenant_id, version_ids, generation=generation)
    async with aclosing(found):
        async for some in found:
            for one in some:
                digests[one[0].version_id][one[0].id] = digest(one)
    return digests
