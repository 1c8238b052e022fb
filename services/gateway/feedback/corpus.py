"""A tenant's documents as search has them: the corpus of an evaluation set."""

from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from uuid import UUID

from planes.shared.domain import text_key
from planes.shared.ports import ObjectStore
from planes.shared.stores.postgres import Database
from services.gateway.feedback import repository

_FIRST = UUID(int=0)
_PART = 500


@dataclass(frozen=True, slots=True)
class CorpusDocument:
    """A document with its extracted text."""

    id: UUID
    name: str
    text: str


async def corpus_of(
    database: Database, objects: ObjectStore, tenant_id: UUID
) -> AsyncIterator[CorpusDocument]:
    """Yield a tenant's published documents; one that is deleted meanwhile is left out."""
    last: UUID | None = _FIRST
    while last is not None:
        async with database.tenant(tenant_id) as connection:
            rows = await repository.published_documents(connection, tenant_id, last, _PART)
        for row in rows:
            with suppress(FileNotFoundError):
                text = await objects.get(text_key(tenant_id, row["id"], row["version_id"]))
                yield CorpusDocument(row["id"], row["name"], text.decode())
        last = rows[-1]["id"] if len(rows) == _PART else None
