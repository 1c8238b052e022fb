"""What people call the documents that chunks belong to."""

from collections.abc import Iterable
from dataclasses import dataclass
from uuid import UUID

from planes.shared.errors import Unavailable
from planes.shared.stores.living_versions import LIVING_VERSIONS
from planes.shared.stores.postgres import Database

_NAMED = f"SELECT v.id, d.name, v.number FROM {LIVING_VERSIONS} WHERE v.id = ANY ($1)"  # noqa: S608 # nosec B608
_EMBEDDER = "SELECT embedder FROM generations WHERE number = $1"


@dataclass(frozen=True, slots=True)
class NamedVersion:
    """A version as citations show it."""

    document_name: str
    number: int


class DocumentRegistry:
    """Reads document names and version numbers of one tenant, and what its index is made by."""

    def __init__(self, database: Database) -> None:
        """Store the database."""
        self._database = database
        self._embedders: dict[int, str] = {}

    async def embedder_of(self, generation: int) -> str:
        """Return the name of the model that a generation of the index is made by.

        Raises:
            Unavailable: The database does not answer, or there is no such generation.
        """
        if generation not in self._embedders:  # a number is given once, and its model never changes
            async with self._database.platform() as connection:
                name = await connection.fetchval(_EMBEDDER, generation)
            if name is None:
                raise Unavailable("The index is being changed. Try again in a moment.")
            self._embedders[generation] = str(name)
        return self._embedders[generation]

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
