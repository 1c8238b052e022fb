"""What documents there are, and their headings, for tools that act as the caller."""

from dataclasses import dataclass
from uuid import UUID

from planes.shared.domain import Heading, SearchScope
from planes.shared.index_ports import ChunkReader
from planes.shared.stores.living_versions import LIVING_VERSIONS
from planes.shared.stores.postgres import Database
from planes.shared.stores.postgres_search import filtered_documents

_DOCUMENTS = """
SELECT d.id, d.name FROM {living}
WHERE d.tenant_id = $1 AND NOT v.id = ANY ($2) AND ($3::uuid[] IS NULL OR d.id = ANY ($3))
  {documents}
ORDER BY d.id DESC LIMIT $4
"""
_VERSION = """
SELECT v.id FROM {living}
WHERE d.tenant_id = $1 AND d.id = $4 AND NOT v.id = ANY ($2)
  AND ($3::uuid[] IS NULL OR d.id = ANY ($3)) {documents}
"""


@dataclass(frozen=True, slots=True)
class Listed:
    """A document that can be searched."""

    id: UUID
    name: str


class DocumentCatalog:
    """Lists documents and their headings within a search scope."""

    def __init__(self, database: Database, chunks: ChunkReader) -> None:
        """Store the registry, and where chunks are kept."""
        self._database = database
        self._chunks = chunks

    async def documents(self, scope: SearchScope, *, limit: int) -> list[Listed]:
        """Return the searchable documents in `scope`, newest first.

        Raises:
            Unavailable: The database does not answer.
        """
        documents, wanted = filtered_documents(scope.documents, column="d.id", first=5)
        query = _DOCUMENTS.format(living=LIVING_VERSIONS, documents=documents)
        async with self._database.tenant(scope.tenant_id) as connection:
            rows = await connection.fetch(query, *_arguments(scope), limit, *wanted)
        return [Listed(row["id"], row["name"]) for row in rows]

    async def outline(self, document_id: UUID, scope: SearchScope, *, limit: int) -> list[Heading]:
        """Return the headings of a document in reading order; none where `scope` lacks it.

        Raises:
            Unavailable: A store does not answer.
        """
        documents, wanted = filtered_documents(scope.documents, column="d.id", first=5)
        query = _VERSION.format(living=LIVING_VERSIONS, documents=documents)
        async with self._database.tenant(scope.tenant_id) as connection:
            version_id = await connection.fetchval(query, *_arguments(scope), document_id, *wanted)
        if version_id is None:
            return []
        return await self._chunks.headings(
            scope.tenant_id, version_id, generation=scope.generation, limit=limit
        )


def _arguments(scope: SearchScope) -> tuple[UUID, list[UUID], list[UUID] | None]:
    ids = None if scope.document_ids is None else list(scope.document_ids)
    return scope.tenant_id, list(scope.hidden_versions), ids
