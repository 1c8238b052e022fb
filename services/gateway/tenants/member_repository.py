"""Members in SQL. Whoever changes them locks the tenant first, so that rules hold in parallel."""

from uuid import UUID

import asyncpg

from planes.shared.domain import Role
from planes.shared.errors import NotFound
from planes.shared.stores.postgres import Connection
from services.gateway.tenants.models import Ended, Member

_MEMBER = """
SELECT m.user_id, u.email, u.display_name, m.role, m.created_at
FROM memberships m JOIN users u ON u.id = m.user_id
WHERE m.tenant_id = $1
"""


async def lock(connection: Connection, tenant_id: UUID) -> None:
    """Make changes of one tenant's members wait for each other until the transaction ends.

    Raises:
        NotFound: The tenant is gone.
    """
    found = await connection.fetchval(
        "SELECT id FROM tenants WHERE id = $1 AND deleted_at IS NULL FOR NO KEY UPDATE", tenant_id
    )
    if found is None:
        raise NotFound("There is no such tenant.")


async def page(
    connection: Connection, tenant_id: UUID, *, before: UUID | None, limit: int
) -> list[Member]:
    """Return members whose accounts are older than `before`, the newest account first."""
    rows = await connection.fetch(
        _MEMBER + " AND ($2::uuid IS NULL OR m.user_id < $2) ORDER BY m.user_id DESC LIMIT $3",
        tenant_id,
        before,
        limit,
    )
    return [_to_member(row) for row in rows]


async def find(connection: Connection, tenant_id: UUID, user_id: UUID) -> Member:
    """Return one member.

    Raises:
        NotFound: There is none of that id in this tenant.
    """
    row = await connection.fetchrow(_MEMBER + " AND m.user_id = $2", tenant_id, user_id)
    if row is None:
        raise NotFound("There is no such member.")
    return _to_member(row)


async def lock_all(connection: Connection, tenant_id: UUID) -> None:
    """Wait for sessions and API keys that are being made; others wait until the end."""
    await connection.execute(
        "SELECT FROM memberships WHERE tenant_id = $1 ORDER BY user_id FOR UPDATE", tenant_id
    )


async def role_of(connection: Connection, tenant_id: UUID, user_id: UUID) -> Role | None:
    """Return a person's role in a tenant now, whatever their token says."""
    role = await connection.fetchval(
        "SELECT role FROM memberships WHERE tenant_id = $1 AND user_id = $2", tenant_id, user_id
    )
    return Role(role) if role is not None else None


async def count(connection: Connection, tenant_id: UUID, role: Role | None = None) -> int:
    """Return how many members there are, or how many of one role."""
    members: int = await connection.fetchval(
        "SELECT count(*) FROM memberships WHERE tenant_id = $1 AND ($2::text IS NULL OR role = $2)",
        tenant_id,
        role,
    )
    return members


async def insert(connection: Connection, tenant_id: UUID, user_id: UUID, role: Role) -> bool:
    """Make a person a member; False where they are one already, whose role stays."""
    row = await connection.fetchrow(
        "INSERT INTO memberships (tenant_id, user_id, role) VALUES ($1, $2, $3)"
        " ON CONFLICT DO NOTHING RETURNING user_id",
        tenant_id,
        user_id,
        role,
    )
    return row is not None


async def set_role(connection: Connection, tenant_id: UUID, user_id: UUID, role: Role) -> Ended:
    """Give a member another role and void every access token that says the old one."""
    version = await _raise_version(connection, tenant_id, user_id)
    await connection.execute(
        "UPDATE memberships SET role = $3 WHERE tenant_id = $1 AND user_id = $2",
        tenant_id,
        user_id,
        role,
    )
    return Ended(user_id, (), version, tenant_id)


async def remove(connection: Connection, tenant_id: UUID, user_id: UUID) -> Ended:
    """Take a member out: the membership, the sessions in this tenant, the API keys."""
    version = await _raise_version(connection, tenant_id, user_id)
    keys = await connection.fetch(
        "SELECT id FROM api_keys WHERE tenant_id = $1 AND user_id = $2", tenant_id, user_id
    )
    await connection.execute(  # the API keys go with it
        "DELETE FROM memberships WHERE tenant_id = $1 AND user_id = $2", tenant_id, user_id
    )
    ended = await connection.fetch(
        "UPDATE sessions SET ended_at = now(), end_reason = 'member-removed'"
        " WHERE tenant_id = $1 AND user_id = $2 AND ended_at IS NULL RETURNING id",
        tenant_id,
        user_id,
    )
    return Ended(user_id, tuple(row["id"] for row in [*ended, *keys]), version, tenant_id)


async def _raise_version(connection: Connection, tenant_id: UUID, user_id: UUID) -> int:
    """Void a member's access tokens for this tenant.

    Before all else: it waits for sessions and keys that are being made, which are seen afterwards;
    and users are locked before memberships everywhere, so that nobody waits in a circle.
    """
    await connection.execute("SELECT FROM users WHERE id = $1 FOR NO KEY UPDATE", user_id)
    version: int = await connection.fetchval(
        "UPDATE memberships SET version = nextval('membership_versions')"
        " WHERE tenant_id = $1 AND user_id = $2 RETURNING version",
        tenant_id,
        user_id,
    )
    return version


def _to_member(row: asyncpg.Record) -> Member:
    return Member(
        user_id=row["user_id"],
        email=row["email"],
        display_name=row["display_name"],
        role=Role(row["role"]),
        joined_at=row["created_at"],
    )
