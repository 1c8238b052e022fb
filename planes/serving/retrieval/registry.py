"""What people call the documents that chunks belong to."""

from collections.abc import Iterable
from dataclasses import dataclass
from uuid import UUID

from planes.shared.stores.living_versions import LIVING_VERSIONS
from planes.shared.stores.postgres import Database

_NAMED = f"SELECT v.id, d.name, v.number FROM {LIVING_VERSIONS} WHERE v.id = ANY ($1)"  # noqa: S608


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
            rows = await connection.fetch(_NAMED, list(set(version_ids)))
        return {row["id"]: NamedVersion(row["name"], row["number"]) for row in rows}
