"""One export at a time, by a lease that its gateway keeps renewing."""

import time
from datetime import timedelta
from uuid import UUID

from planes.shared.errors import Conflict, Forbidden
from planes.shared.stores.postgres import Database
from services.gateway.audit import Action, AuditEvent, record
from services.gateway.auth.models import Account
from services.gateway.auth.session_repository import standings
from services.gateway.billing.features import Feature, require_feature

_LIFETIME = timedelta(seconds=60)
_CHECKED_AFTER_S = 0.5

_TAKE = """
INSERT INTO exports AS e (tenant_id, subject_id, holder, lease_until)
VALUES ($1, $2, $3, now() + $4::interval)
ON CONFLICT (tenant_id, subject_id) DO UPDATE
SET holder = excluded.holder, lease_until = excluded.lease_until
WHERE e.lease_until <= now()
RETURNING holder
"""
_KEEP = """
UPDATE exports SET lease_until = now() + $4::interval
WHERE tenant_id = $1 AND subject_id = $2 AND holder = $3 RETURNING holder
"""


class ExportLease:
    """The right to export one subject's data, as long as the caller's session and role last."""

    def __init__(
        self, database: Database, account: Account, subject_id: UUID, holder: UUID
    ) -> None:
        """Store the parts.

        Args:
            database: Where leases stand.
            account: Who exports.
            subject_id: The tenant or the person whose data it is.
            holder: The id of this export.
        """
        self._database = database
        self._account = account
        self._key = (account.context.tenant_id, subject_id, holder)
        self._kept_at = 0.0

    async def take(self, event: AuditEvent) -> None:
        """Begin an export, and note that it was.

        Raises:
            Conflict: Another export of the same data is under way.
            Forbidden: The plan has no exports of tenants; people export their own data on any.
        """
        tenant_id = self._account.context.tenant_id
        async with self._database.tenant(tenant_id) as connection:
            if event.action is Action.TENANT_EXPORTED:
                await require_feature(connection, tenant_id, Feature.EXPORT)
            if await connection.fetchval(_TAKE, *self._key, _LIFETIME) is None:
                raise Conflict(
                    "An export of the same data is under way. Try again when it is done.",
                    retry_after_s=60,
                )
            await record(connection, event)
        self._kept_at = time.monotonic()

    async def keep(self) -> None:
        """Renew the lease where it is time to.

        Raises:
            Forbidden: The caller's session or role has ended, or a stalled export's lease.
        """
        if time.monotonic() - self._kept_at < _CHECKED_AFTER_S:
            return
        account = self._account
        async with self._database.tenant(account.context.tenant_id) as connection:
            found = await standings(connection, [account.session_id])
            kept = await connection.fetchval(_KEEP, *self._key, _LIFETIME)
        if kept is None or found.get(account.session_id) != (account.version, account.role):
            raise Forbidden("The right to this export has ended.")
        self._kept_at = time.monotonic()

    async def drop(self) -> None:
        """End the lease, so that the next export may begin at once."""
        async with self._database.tenant(self._account.context.tenant_id) as connection:
            await connection.execute(
                "DELETE FROM exports WHERE tenant_id = $1 AND subject_id = $2 AND holder = $3",
                *self._key,
            )
