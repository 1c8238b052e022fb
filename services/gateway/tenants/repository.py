"""The tenant's own row in SQL."""

from uuid import UUID

from planes.shared.stores.postgres import Connection
from services.gateway.tenants.models import Tenant


async def find(connection: Connection, tenant_id: UUID) -> Tenant | None:
    """Return a living tenant."""
    row = await connection.fetchrow(
        "SELECT t.id, t.name, t.plan, t.created_at,"
        " (SELECT count(*) FROM memberships m WHERE m.tenant_id = t.id) AS member_count"
        " FROM tenants t WHERE t.id = $1 AND t.deleted_at IS NULL",
        tenant_id,
    )
    return Tenant(*row) if row is not None else None


async def after(connection: Connection, last: UUID | None, limit: int) -> list[Tenant]:
    """Return living tenants in the order in which they came, those after `last`; for operators."""
    rows = await connection.fetch(
        "SELECT id, name, plan, created_at, members FROM tenants_after($1, $2)", last, limit
    )
    return [Tenant(*row) for row in rows]


async def rename(connection: Connection, tenant_id: UUID, name: str) -> bool:
    """Change the name; False where it is that already, or the tenant is gone."""
    row = await connection.fetchrow(
        "UPDATE tenants SET name = $2 WHERE id = $1 AND name <> $2 AND deleted_at IS NULL"
        " RETURNING id",
        tenant_id,
        name,
    )
    return row is not None
