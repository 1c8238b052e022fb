"""The tenant itself: what it is called and what it has."""

from planes.shared.errors import NotFound
from planes.shared.stores.postgres import Database
from services.gateway.audit import Action, AuditEvent, record
from services.gateway.auth.models import Account
from services.gateway.tenants import repository
from services.gateway.tenants.models import Tenant


class TenantService:
    """Reads and renames the caller's tenant."""

    def __init__(self, database: Database) -> None:
        """Store the database."""
        self._database = database

    async def find(self, account: Account) -> Tenant:
        """Return the tenant.

        Raises:
            NotFound: It was deleted a moment ago.
        """
        tenant_id = account.context.tenant_id
        async with self._database.tenant(tenant_id) as connection:
            tenant = await repository.find(connection, tenant_id)
        if tenant is None:
            raise NotFound("There is no such tenant.")
        return tenant

    async def rename(self, account: Account, name: str) -> Tenant:
        """Give the tenant another name.

        Raises:
            NotFound: It was deleted a moment ago.
        """
        tenant_id = account.context.tenant_id
        async with self._database.tenant(tenant_id) as connection:
            if await repository.rename(connection, tenant_id, name):
                event = AuditEvent(
                    tenant_id,
                    Action.TENANT_CHANGED,
                    account,
                    subject=f"tenant:{tenant_id}",
                    details={"changed": ["name"]},
                )
                await record(connection, event)
        return await self.find(account)
