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
        event = AuditEvent(
            tenant_id=row["tenant_id"],
            action=act.action,
            actor=None if act.is_operators else act.user_id,
            actor_kind="operator",
            subject=f"user:{act.user_id}",
            details=act.details,
        )
        await record_in_tenant(connection, event)
