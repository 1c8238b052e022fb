"""One export at a time, by a lease that its gateway keeps renewing."""

import time
from collections.abc import Callable
from datetime import timedelta
from uuid import UUID

from planes.shared.domain import Role
from planes.shared.errors import Conflict, Forbidden
from planes.shared.stores.postgres import Database
from services.gateway.audit import Action, AuditEvent, record
from services.gateway.auth.models import Account
from services.gateway.billing.features import Feature, require_feature
from services.gateway.tenants import member_repository as members

_LIFETIME = timedelta(seconds=60)
_RENEWED_AFTER_S = 5.0

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
    """The right to export one subject's data, as long as the caller keeps the role."""

    def __init__(
        self, database: Database, account: Account, subject_id: UUID, role: Role, holder: UUID
    ) -> None:
        """Store the parts.

        Args:
            database: Where leases stand.
            account: Who exports.
            subject_id: The tenant or the person whose data it is.
            role: The lowest role that may.
            holder: The id of this export.
        """
        self._database = database
        self._account = account
        self._key = (account.context.tenant_id, subject_id, holder)
        self._role = role
        self._clock: Callable[[], float] = time.monotonic
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
        self._kept_at = self._clock()

    async def keep(self) -> None:
        """Renew the lease where it is time to.

        Raises:
            Forbidden: The caller has lost the right, or a stalled export its lease.
        """
        if self._clock() - self._kept_at < _RENEWED_AFTER_S:
            return
        context = self._account.context
        async with self._database.tenant(context.tenant_id) as connection:
            role = await members.role_of(connection, context.tenant_id, context.user_id)
            kept = await connection.fetchval(_KEEP, *self._key, _LIFETIME)
        if kept is None or role is None or role.rank < self._role.rank:
            raise Forbidden("The right to this export has ended.")
        self._kept_at = self._clock()

    async def drop(self) -> None:
        """End the lease, so that the next export may begin at once."""
        async with self._database.tenant(self._account.context.tenant_id) as connection:
            await connection.execute(
                "DELETE FROM exports WHERE tenant_id = $1 AND subject_id = $2 AND holder = $3",
                *self._key,
            )
