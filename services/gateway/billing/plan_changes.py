"""Plan changes: the row, its history, its charge and its audit event in one transaction."""

from uuid import UUID

import asyncpg

from planes.shared.stores.postgres import Connection, Database
from services.gateway.audit import Action, AuditEvent, record
from services.gateway.billing import plan_repository
from services.gateway.billing.plan_repository import ChangedPlan, PlanChange
from services.gateway.billing.prices import money
from services.gateway.limits.gate import SessionGate

_CHARGED_AT_ONCE = 50  # their questions wait for the commit


class PlanChanges:
    """Moves tenants between plans; quotas act at once, rate limits within a second."""

    def __init__(self, database: Database, gate: SessionGate) -> None:
        """Store where plans are kept and where their limits are remembered."""
        self._database = database
        self._gate = gate

    async def change(self, change: PlanChange) -> ChangedPlan:
        """Move a tenant to a plan.

        Raises:
            InvalidInput: There is no such plan.
            NotFound: There is no such tenant.
        """
        async with self._database.tenant(change.tenant_id) as connection:
            changed = await self.apply(connection, change)
        if changed.is_change:
            await self.forget_limits(change.tenant_id)
        return changed

    async def apply(self, connection: Connection, change: PlanChange) -> ChangedPlan:
        """Do the same in a transaction of the caller, who calls `forget_limits` after it."""
        changed = await plan_repository.change_plan(connection, change)
        if changed.is_change:
            await record(connection, _event(change, changed))
        return changed

    async def forget_limits(self, tenant_id: UUID) -> None:
        """Make the tenant's sessions read their limits anew.

        What Redis remembers of them expires after a minute anyway, should it not answer now.
        """
        async with self._database.tenant(tenant_id) as connection:
            sessions = await plan_repository.live_sessions(connection, tenant_id)
        for row in sessions:
            await self._gate.forget(row["user_id"], row["ids"])

    async def charge(self) -> int:
        """Charge this month of every paid plan that was not charged yet; returns how many."""
        charged = 0
        while True:
            async with self._database.platform() as connection:
                count = await plan_repository.charge_subscriptions(connection, _CHARGED_AT_ONCE)
            charged += count
            if count == 0:
                return charged

    async def plans(self) -> list[asyncpg.Record]:
        """Return every plan's name, cheapest first."""
        async with self._database.platform() as connection:
            return await plan_repository.plan_names(connection)


def _event(change: PlanChange, changed: ChangedPlan) -> AuditEvent:
    kind = "operator" if change.actor_kind == "operator" else "system"
    return AuditEvent(
        change.tenant_id,
        Action.PLAN_CHANGED,
        actor=change.actor_id,
        actor_kind=kind,
        subject=f"plan:{changed.to_plan}",
        details={"from": changed.from_plan, "charged_usd": money(changed.charged_usd)},
    )
