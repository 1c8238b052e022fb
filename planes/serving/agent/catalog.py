"""What documents there are, and their headings, for tools that act as the caller."""

from dataclasses import dataclass
from uuid import UUID

from planes.shared.domain import SearchScope
from planes.shared.stores.living_versions import LIVING_VERSIONS
from planes.shared.stores.postgres import Database
from planes.shared.stores.postgres_chunk_rows import table_of
from planes.shared.stores.postgres_search import filtered_documents

_DOCUMENTS = """
SELECT d.id, d.name FROM {living}
WHERE d.tenant_id = $1 AND NOT v.id = ANY ($2) AND ($3::uuid[] IS NULL OR d.id = ANY ($3))
  {documents}
ORDER BY d.id DESC LIMIT $4
"""
_HEADINGS = """
SELECT c.heading, min(c.page) AS page FROM {table} c
JOIN ({living}) ON v.id = c.version_id
WHERE c.tenant_id = $1 AND c.document_id = $5 AND c.heading <> ''
  AND NOT c.version_id = ANY ($2) AND ($3::uuid[] IS NULL OR c.document_id = ANY ($3))
  {documents}
GROUP BY c.heading ORDER BY min(c.char_start) LIMIT $4
"""


@dataclass(frozen=True, slots=True)
class Listed:
    """A document that can be searched."""

    id: UUID
    name: str


@dataclass(frozen=True, slots=True)
class Heading:
    """A breadcrumb of headings, and the first page that it stands on."""

    breadcrumb: str
    page: int | None


class DocumentCatalog:
    """Lists documents and their headings within a search scope."""

    def __init__(self, database: Database) -> None:
        """Store the database."""
        self._database = database

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
            Unavailable: The database does not answer.
        """
        documents, wanted = filtered_documents(scope.documents, column="c.document_id", first=6)
        query = _HEADINGS.format(
            living=LIVING_VERSIONS, table=table_of(scope.generation), documents=documents
        )
        async with self._database.tenant(scope.tenant_id) as connection:
            rows = await connection.fetch(query, *_arguments(scope), limit, document_id, *wanted)
        return [Heading(row["heading"], row["page"]) for row in rows]


def _arguments(scope: SearchScope) -> tuple[UUID, list[UUID], list[UUID] | None]:
    ids = None if scope.document_ids is None else list(scope.document_ids)
    return scope.tenant_id, list(scope.hidden_versions), ids
