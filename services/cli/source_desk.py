"""What the commands over watched sources work with."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar
from uuid import UUID

import asyncpg

from planes.shared.clients.dagster import DagsterClient
from planes.shared.domain import new_id
from planes.shared.errors import Conflict, NotFound, Unavailable
from planes.shared.stores.postgres import Database
from services.cli.desk import at
from services.embedded.installation import Installation
from services.embedded.postgres import PLATFORM_DATABASE
from services.gateway.audit import Action, AuditEvent, record
from services.gateway.auth.models import email_key

Result = TypeVar("Result")
_MAX_TAGS = 32
_MAX_TAG_CHARS = 64
_SHOWN = 20
_OWNER = """
SELECT u.id FROM memberships m JOIN users u ON u.id = m.user_id
JOIN tenants t ON t.id = m.tenant_id AND t.deleted_at IS NULL
WHERE m.tenant_id = $1 AND u.email_key = $2 AND m.role <> 'viewer'
"""
_INSERT = """
INSERT INTO sources (id, tenant_id, owner_id, kind, location, tags, delete_missing)
VALUES ($1, $2, $3, $4, $5, $6, $7)
"""
_ALL = """
SELECT s.*, u.email,
       (SELECT count(*) FROM source_files f JOIN documents d ON d.id = f.document_id
        WHERE f.source_id = s.id AND d.deleted_at IS NULL) AS documents,
       (SELECT count(*) FROM source_files f
        WHERE f.source_id = s.id AND f.skipped IS NOT NULL) AS skipped
FROM sources s JOIN users u ON u.id = s.owner_id ORDER BY s.tenant_id, s.id
"""
_SKIPPED = """
SELECT key, skipped FROM source_files WHERE source_id = $1 AND skipped IS NOT NULL
ORDER BY key LIMIT $2
"""


@dataclass(frozen=True, slots=True)
class NewSource:
    """A source as the operator names it; `owner` is an address, `kind` is folder or s3."""

    tenant_id: UUID
    owner: str
    kind: str
    location: str
    tags: tuple[str, ...]
    deletes_missing: bool

    @property
    def flaw(self) -> str | None:
        """What is wrong with it, in a sentence; None: nothing that can be seen here."""
        if self.kind == "folder" and not Path(self.location).is_absolute():
            return "--folder is an absolute path."
        bucket = self.location.removeprefix("s3://").partition("/")[0]
        if self.kind == "s3" and (not self.location.startswith("s3://") or not bucket):
            return "--s3 is a bucket and a prefix, as in s3://bucket/prefix."
        if len(self.tags) > _MAX_TAGS or not all(
            0 < len(tag) <= _MAX_TAG_CHARS for tag in self.tags
        ):
            return "There are at most 32 tags, each of 1 to 64 characters."
        return None


class SourceDesk:
    """The sources in the hands of the schema's owner, and Dagster."""

    def __init__(self, database: Database, dagster: DagsterClient) -> None:
        """Store the parts."""
        self._database = database
        self._dagster = dagster

    async def add(self, new: NewSource) -> UUID:
        """Add a source and return its id.

        Raises:
            NotFound: There is no such tenant, or no such member who may upload.
            Conflict: The tenant has a source there already.
        """
        source_id = new_id()
        try:
            async with self._database.tenant(new.tenant_id) as connection:
                owner = await connection.fetchval(_OWNER, new.tenant_id, email_key(new.owner))
                if owner is None:
                    raise NotFound(
                        f"{new.owner} is no member of tenant {new.tenant_id} who may upload."
                    )
                ids = (source_id, new.tenant_id, owner)
                tags = sorted(set(new.tags))
                await connection.execute(
                    _INSERT, *ids, new.kind, new.location, tags, new.deletes_missing
                )
                await record(connection, _added(new, source_id))
        except asyncpg.UniqueViolationError as error:
            raise Conflict("The tenant has a source there already.") from error
        return source_id

    async def all(self) -> list[asyncpg.Record]:
        """Return all sources, each with its counts."""
        async with self._database.platform() as connection:
            return await connection.fetch(_ALL)

    async def skipped(self, source_id: UUID) -> list[asyncpg.Record]:
        """Return the first files that became no document, with the reasons."""
        async with self._database.platform() as connection:
            return await connection.fetch(_SKIPPED, source_id, _SHOWN)

    async def remove(self, source_id: UUID) -> None:
        """Forget a source and what is known of its files.

        Raises:
            NotFound: There is none of that id.
        """
        async with self._database.tenant(None) as connection:
            tenant_id = await connection.fetchval(
                "DELETE FROM sources WHERE id = $1 RETURNING tenant_id", source_id
            )
            if tenant_id is None:
                raise NotFound("There is no such source.")
            await record(connection, _removed(tenant_id, source_id))

    async def request_scan(self) -> None:
        """Have the data plane scan all sources.

        Raises:
            Unavailable: Dagster does not take the request.
        """
        if not await self._dagster.request_run("scan_sources", {}, {}):
            raise Unavailable("Dagster does not take the request. `polyplane status` shows why.")


def at_source_desk(act: Callable[[SourceDesk], Awaitable[Result]]) -> Result:
    """Do something with the running platform.

    Raises:
        typer.Exit: It does not run, or refuses; what it says is printed.
    """
    return at(_open, act)


@asynccontextmanager
async def _open(installation: Installation) -> AsyncIterator[SourceDesk]:
    url = installation.servers.owner_url(PLATFORM_DATABASE)
    database = Database(url, service="cli", max_connections=2)
    dagster = DagsterClient(f"http://127.0.0.1:{installation.ports['dagster']}")
    await database.open()
    dagster.open()
    try:
        yield SourceDesk(database, dagster)
    finally:
        await dagster.close()
        await database.close()


def _added(new: NewSource, source_id: UUID) -> AuditEvent:
    return AuditEvent(
        new.tenant_id,
        Action.SOURCE_ADDED,
        actor_kind="operator",
        subject=f"source:{source_id}",
        details={"kind": new.kind, "deletes_missing": new.deletes_missing},
    )


def _removed(tenant_id: UUID, source_id: UUID) -> AuditEvent:
    return AuditEvent(
        tenant_id,
        Action.SOURCE_REMOVED,
        actor_kind="operator",
        subject=f"source:{source_id}",
    )
