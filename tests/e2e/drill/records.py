"""What the registry, the index and the object store hold, read past every right."""

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

from sqlalchemy import RowMapping, text
from sqlalchemy.exc import OperationalError

from services.embedded.home import Home
from services.embedded.installation import running_installation
from services.embedded.postgres import PLATFORM_DATABASE
from services.embedded.schema import owner_connection
from tests.e2e.conftest import RunningPlatform

_UNSETTLED = """
SELECT concat_ws(' ', 'version', v.id, v.status, v.visibility, 'attempt', v.attempts)
FROM document_versions v JOIN documents d ON d.id = v.document_id
WHERE v.tenant_id = ANY (:tenants) AND d.deleted_at IS NULL
  AND (v.status IN ('received', 'parsing', 'embedding') OR v.visibility = 'hidden')
UNION ALL
SELECT concat_ws(' ', 'deletion', d.document_id) FROM deletions d
WHERE d.tenant_id = ANY (:tenants) AND d.completed_at IS NULL
"""


class Records:
    """Reads the stores of a running platform."""

    def __init__(self, platform: RunningPlatform) -> None:
        """Store the platform."""
        installation = running_installation(Home(platform.home))
        assert installation is not None
        self._url = installation.servers.owner_url(PLATFORM_DATABASE)
        self.objects = platform.home / "objects"

    def rows(self, query: str, **values: object) -> Sequence[RowMapping]:
        """Return what a query finds.

        Raises:
            OperationalError: The database is away.
        """
        with owner_connection(self._url) as connection:
            return connection.execute(text(query), values).mappings().all()

    def values(self, query: str, **values: object) -> list[Any]:
        """Return the first column of what a query finds."""
        return [next(iter(row.values())) for row in self.rows(query, **values)]

    def unsettled(self, tenants: Iterable[str]) -> list[str]:
        """Name what the data plane has still to do for some tenants."""
        try:
            return self.values(_UNSETTLED, tenants=[UUID(one) for one in tenants])
        except OperationalError:
            return ["the database is away"]

    def intermediates(self) -> list[str]:
        """Name the files of runs that are still there."""
        batches = self.objects / "batches"
        return [str(path.relative_to(self.objects)) for path in batches.rglob("*")]

    def files(self, tenant_id: str) -> Counter[str]:
        """Return a tenant's files below the objects' folder."""
        paths = (self.objects / tenant_id).rglob("*")
        return Counter(str(path.relative_to(self.objects)) for path in paths if path.is_file())

    def path(self, key: str) -> Path:
        """Return where an object lies."""
        return self.objects / key
