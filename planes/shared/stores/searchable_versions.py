"""The registry's searchable versions beside the chunks that a store has of them."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from planes.shared.index_ports import ChunkWriter
from planes.shared.stores.postgres import Database

_PAGE = 1000
_FIRST = UUID(int=0)
_SEARCHABLE = "SELECT * FROM searchable_versions($1, $2, $3)"


@dataclass(frozen=True, slots=True)
class SearchableVersion:
    """A published version; `chunks` is how many were counted in a generation, None: it was not."""

    id: UUID
    tenant_id: UUID
    document_id: UUID
    media_type: str
    size_bytes: int
    sha256: bytes
    language: str | None
    published_at: datetime
    chunks: int | None


async def searchable_versions(
    database: Database, generation: int
) -> AsyncIterator[list[SearchableVersion]]:
    """Yield every searchable version of all tenants, by id, a page at a time; none at the end.

    Raises:
        Unavailable: The database does not answer.
    """
    after = _FIRST
    while True:
        async with database.platform() as connection:
            rows = await connection.fetch(_SEARCHABLE, generation, after, _PAGE)
        if not rows:
            return
        yield [SearchableVersion(**row) for row in rows]
        after = rows[-1]["id"]


async def incomplete(
    versions: Sequence[SearchableVersion], store: ChunkWriter, *, generation: int
) -> list[SearchableVersion]:
    """Return those that were not counted, or have another number of chunks than was counted.

    Raises:
        Unavailable: The store does not answer.
    """
    by_tenant: dict[UUID, list[UUID]] = {}
    for version in versions:
        by_tenant.setdefault(version.tenant_id, []).append(version.id)
    shown: dict[UUID, int] = {}
    for tenant_id, ids in by_tenant.items():
        shown |= await store.count_versions(tenant_id, ids, generation=generation)
    return [one for one in versions if one.chunks is None or shown.get(one.id) != one.chunks]
