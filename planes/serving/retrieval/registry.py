"""What people call the documents that chunks belong to."""

from collections.abc import Iterable
from dataclasses import dataclass
from uuid import UUID

from planes.shared.stores.postgres import Database

_LIVING_VERSIONS = """
SELECT v.id, d.name, v.number FROM document_versions v JOIN documents d ON d.id = v.document_id
WHERE v.id = ANY ($1) AND d.deleted_at IS NULL AND v.visibility = 'live'
"""


@dataclass(frozen=True, slots=True)
class NamedVersion:
    """A version as citations show it."""

    document_name: str
    number: int


class DocumentRegistry:
    """Reads document names and version numbers of one tenant."""

    def __init__(self, database: Database) -> None:
        """Store the database."""
        self._database = database

    async def living_versions(
        self, tenant_id: UUID, version_ids: Iterable[UUID]
    ) -> dict[UUID, NamedVersion]:
        """Return the live versions of documents that are not deleted; others are absent.

        Raises:
            Unavailable: The database does not answer.
        """
        async with self._database.tenant(tenant_id) as connection:
            rows = await connection.fetch(_LIVING_VERSIONS, list(set(version_ids)))
        return {row["id"]: NamedVersion(row["name"], row["number"]) for row in rows}
