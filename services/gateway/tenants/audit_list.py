"""The audit log as owners read it."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import asyncpg

from planes.shared.errors import InvalidInput
from planes.shared.stores.postgres import Database
from services.gateway.auth.models import Account
from services.gateway.billing.features import Feature, require_feature
from services.gateway.tenants.schemas import Actor, AuditEntry

_ENTRIES = """
SELECT a.*, u.display_name
FROM audit_log a LEFT JOIN users u ON u.id = a.actor_id AND u.deleted_at IS NULL
WHERE a.tenant_id = $1 AND ($2::uuid IS NULL OR a.id < $2)
  AND ($3::text IS NULL OR a.action = $3) AND ($4::uuid IS NULL OR a.actor_id = $4)
  AND ($5::timestamptz IS NULL OR a.created_at >= $5)
  AND ($6::timestamptz IS NULL OR a.created_at < $6)
ORDER BY a.id DESC LIMIT $7
"""


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """Which acts are wanted; None is all. `start` is included, `end` is not."""

    action: str | None = None
    actor_id: UUID | None = None
    start: datetime | None = None
    end: datetime | None = None

    def __post_init__(self) -> None:
        """Check the span.

        Raises:
            InvalidInput: It is empty, or no time of ours.
        """
        if any(time and not 2000 <= time.year < 3000 for time in (self.start, self.end)):
            raise InvalidInput("`from` and `to` lie between the years 2000 and 3000.")
        if self.start is not None and self.end is not None and self.start >= self.end:
            raise InvalidInput("`from` must be earlier than `to`.")


class AuditList:
    """Reads the acts of one tenant."""

    def __init__(self, database: Database) -> None:
        """Store the database."""
        self._database = database

    async def page(
        self, account: Account, wanted: AuditFilter, *, before: UUID | None, limit: int
    ) -> list[AuditEntry]:
        """Return a part of the acts, newest first.

        Raises:
            Forbidden: The plan has no audit log; it is written all the same.
        """
        tenant_id = account.context.tenant_id
        async with self._database.tenant(tenant_id) as connection:
            await require_feature(connection, tenant_id, Feature.AUDIT_LOG)
            rows = await connection.fetch(
                _ENTRIES,
                tenant_id,
                before,
                wanted.action,
                wanted.actor_id,
                wanted.start,
                wanted.end,
                limit,
            )
        return [_entry(row) for row in rows]


def _entry(row: asyncpg.Record) -> AuditEntry:
    return AuditEntry(
        id=row["id"],
        action=row["action"],
        actor=Actor(
            kind=row["actor_kind"],
            id=row["actor_id"],
            display_name=row["display_name"],
            api_key_id=row["api_key_id"],
        ),
        subject=row["subject"],
        details=row["details"],
        address=row["address"],
        trace_id=row["trace_id"],
        created_at=row["created_at"],
    )
