"""The end of an account in SQL."""

from uuid import UUID

from planes.shared.stores.postgres import Connection
from services.gateway.tenants.models import Ended


async def memberships(connection: Connection, user_id: UUID) -> list[UUID]:
    """Return the tenants of a user, in the order in which they are to be locked."""
    rows = await connection.fetch(
        "SELECT tenant_id FROM memberships WHERE user_id = $1 ORDER BY tenant_id", user_id
    )
    return [row["tenant_id"] for row in rows]


async def lock(connection: Connection, user_id: UUID) -> None:
    """Keep the user from becoming a member anywhere until the transaction ends."""
    await connection.execute("SELECT FROM users WHERE id = $1 FOR UPDATE", user_id)


async def forget_requests(connection: Connection, tenant_id: UUID, user_id: UUID) -> None:
    """Delete what a user's repeatable requests in the tenant were answered."""
    await connection.execute(
        "DELETE FROM idempotent_requests WHERE tenant_id = $1 AND user_id = $2", tenant_id, user_id
    )


async def anonymise(connection: Connection, user_id: UUID) -> Ended:
    """Leave of a user only the id: the ledger, documents and the audit log refer to it.

    The e-mail address is free for a new account afterwards.
    """
    await connection.execute("SELECT tombstone_own_conversations()")
    await connection.execute(
        "DELETE FROM mail_outbox WHERE address IN (SELECT email FROM users WHERE id = $1)", user_id
    )
    await connection.execute("DELETE FROM user_tokens WHERE user_id = $1", user_id)
    await connection.execute("DELETE FROM user_identities WHERE user_id = $1", user_id)
    ended = await connection.fetch("DELETE FROM sessions WHERE user_id = $1 RETURNING id", user_id)
    version: int = await connection.fetchval(
        "UPDATE users SET email = '', email_key = 'deleted:' || id, password_hash = NULL,"
        " display_name = '', email_verified_at = NULL, disabled_at = now(), deleted_at = now(),"
        " version = version + 1 WHERE id = $1 RETURNING version",
        user_id,
    )
    return Ended(user_id, tuple(row["id"] for row in ended), version)
