"""Acts of and upon people, who may belong to several tenants, in the audit log of each."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from uuid import UUID

from planes.shared.stores.postgres import Connection
from services.gateway.audit import Action, AuditEvent, record


@dataclass(frozen=True, slots=True)
class PersonalAct:
    """What somebody did, or what the operator did to somebody."""

    user_id: UUID
    action: Action
    is_operators: bool = False
    details: Mapping[str, object] = field(default_factory=dict)

    def event(self, tenant_id: UUID) -> AuditEvent:
        """Return the act as it stands in the log of one tenant."""
        return AuditEvent(
            tenant_id=tenant_id,
            action=self.action,
            actor=None if self.is_operators else self.user_id,
            actor_kind="operator",
            subject=f"user:{self.user_id}",
            details=self.details,
        )


async def record_in_tenant(connection: Connection, event: AuditEvent) -> None:
    """Record an event in a transaction of one user, which now sees the event's tenant too."""
    await connection.execute("SELECT set_config('app.tenant_id', $1, true)", str(event.tenant_id))
    await record(connection, event)


async def record_everywhere(connection: Connection, act: PersonalAct) -> None:
    """Record an act in every tenant of its user, in a transaction that sees the user's rows."""
    rows = await connection.fetch(
        "SELECT tenant_id FROM memberships WHERE user_id = $1 ORDER BY tenant_id", act.user_id
    )
    for row in rows:
        await record_in_tenant(connection, act.event(row["tenant_id"]))
