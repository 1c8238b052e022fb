"""Invitations in SQL; a row is an invitation that is open or has run out."""

from datetime import timedelta
from uuid import UUID

import asyncpg

from planes.shared.domain import Role, TenantContext
from planes.shared.stores.postgres import Connection
from services.gateway.audit import Action
from services.gateway.tenants.models import Invitation, NewInvitation

_OPEN = """
SELECT id, tenant_id, email, email_key, role, invited_by, created_at, expires_at FROM invitations
WHERE tenant_id = $1 AND expires_at > now()
"""
_REPLACE = """
INSERT INTO invitations (
    id, tenant_id, email, email_key, role, token_hash, invited_by, expires_at
) VALUES ($1, $2, $3, $4, $5, $6, $7, now() + $8::interval)
ON CONFLICT (tenant_id, email_key) DO UPDATE
SET id = excluded.id, email = excluded.email, role = excluded.role, created_at = now(),
    token_hash = excluded.token_hash, invited_by = excluded.invited_by,
    expires_at = excluded.expires_at
RETURNING id, tenant_id, email, role, invited_by, created_at, expires_at
"""


async def made_within(connection: Connection, tenant_id: UUID, span: timedelta) -> int:
    """Return how many invitations the tenant has made lately, withdrawn ones included."""
    made: int = await connection.fetchval(
        "SELECT count(*) FROM audit_log WHERE tenant_id = $1 AND action = $2"
        " AND created_at > now() - $3::interval",
        tenant_id,
        Action.MEMBER_INVITED,
        span,
    )
    return made


async def has_member(connection: Connection, tenant_id: UUID, email_key: str) -> bool:
    """Tell whether a person of that address is a member."""
    is_member: bool = await connection.fetchval(
        "SELECT EXISTS (SELECT FROM memberships m JOIN users u ON u.id = m.user_id"
        " WHERE m.tenant_id = $1 AND u.email_key = $2)",
        tenant_id,
        email_key,
    )
    return is_member


async def email_key_of(connection: Connection, user_id: UUID) -> str:
    """Return the case-folded address of a user, which stays theirs until the transaction ends.

    Without the lock an account that is being deleted could still become a member.
    """
    key: str = await connection.fetchval(
        "SELECT email_key FROM users WHERE id = $1 FOR KEY SHARE", user_id
    )
    return key


async def inviter_role(connection: Connection, invitation: Invitation) -> Role | None:
    """Return the role of whoever made an invitation; None for who has left or is disabled."""
    role = await connection.fetchval(
        "SELECT m.role FROM memberships m JOIN users u ON u.id = m.user_id"
        " WHERE m.tenant_id = $1 AND m.user_id = $2 AND u.disabled_at IS NULL",
        invitation.tenant_id,
        invitation.invited_by,
    )
    return Role(role) if role is not None else None


async def replace(
    connection: Connection, context: TenantContext, new: NewInvitation, lifetime: timedelta
) -> Invitation:
    """Insert an invitation; an older one of the same address ends with it."""
    row = await connection.fetchrow(
        _REPLACE,
        new.id,
        context.tenant_id,
        new.email,
        new.email_key,
        new.role,
        new.token_hash,
        context.user_id,
        lifetime,
    )
    assert row is not None  # noqa: S101 (both branches return the row)
    return _to_invitation(row)


async def page(
    connection: Connection, tenant_id: UUID, *, before: UUID | None, limit: int
) -> list[Invitation]:
    """Return open invitations, newest first."""
    rows = await connection.fetch(
        _OPEN + " AND ($2::uuid IS NULL OR id < $2) ORDER BY id DESC LIMIT $3",
        tenant_id,
        before,
        limit,
    )
    return [_to_invitation(row) for row in rows]


async def delete(connection: Connection, tenant_id: UUID, invitation_id: UUID) -> bool:
    """Withdraw an invitation; False where there is none open."""
    row = await connection.fetchrow(
        "DELETE FROM invitations WHERE tenant_id = $1 AND id = $2"
        " RETURNING expires_at > now() AS was_open",
        tenant_id,
        invitation_id,
    )
    return row is not None and bool(row["was_open"])


async def renew_token(
    connection: Connection, tenant_id: UUID, invitation_id: UUID, token_hash: bytes
) -> tuple[str, str] | None:
    """Give an open invitation another token; return its address and the tenant's name."""
    row = await connection.fetchrow(
        "UPDATE invitations i SET token_hash = $3 FROM tenants t"
        " WHERE i.tenant_id = $1 AND i.id = $2 AND i.expires_at > now() AND t.id = i.tenant_id"
        " RETURNING i.email, t.name",
        tenant_id,
        invitation_id,
        token_hash,
    )
    return (row["email"], row["name"]) if row is not None else None


async def tenant_of(connection: Connection, token_hash: bytes) -> UUID | None:
    """Return the tenant that a token invites to, open or not; needs no tenant."""
    tenant_id: UUID | None = await connection.fetchval(
        "SELECT tenant_of_invitation($1)", token_hash
    )
    return tenant_id


async def find_open(
    connection: Connection, tenant_id: UUID, token_hash: bytes
) -> tuple[Invitation, str] | None:
    """Return an open invitation by its token, with the case-folded address that it is for."""
    row = await connection.fetchrow(_OPEN + " AND token_hash = $2", tenant_id, token_hash)
    return (_to_invitation(row), row["email_key"]) if row is not None else None


def _to_invitation(row: asyncpg.Record) -> Invitation:
    return Invitation(
        id=row["id"],
        tenant_id=row["tenant_id"],
        email=row["email"],
        role=Role(row["role"]),
        invited_by=row["invited_by"],
        created_at=row["created_at"],
        expires_at=row["expires_at"],
    )
