"""Proofs of an address, new passwords, and the mail about both, in PostgreSQL."""

from dataclasses import replace
from uuid import UUID

from planes.shared.stores.postgres import Connection, Database
from services.gateway.audit import Action
from services.gateway.auth.audit_trail import PersonalAct, record_everywhere, record_in_tenant
from services.gateway.auth.models import Person
from services.gateway.auth.one_time_tokens import TokenKind, mint, stored, use, void
from services.gateway.limits.revocations import Revocation
from services.gateway.mail.outbox import Occasion, post

_HOLDER = """
SELECT u.id, u.email, u.display_name FROM user_tokens t JOIN users u ON u.id = t.user_id
WHERE t.token_hash = $1 AND t.kind = $2 AND t.used_at IS NULL AND t.expires_at > now()
  AND u.disabled_at IS NULL
"""

_RESET = """
UPDATE users SET password_hash = $2, version = version + 1,
    email_verified_at = CASE WHEN $3 THEN coalesce(email_verified_at, now())
                             ELSE email_verified_at END
WHERE id = $1 RETURNING version
"""

_END_KEYS = """
UPDATE api_keys SET ended_at = now() WHERE user_id = $1 AND ended_at IS NULL
RETURNING id, tenant_id, prefix
"""

_END_SESSIONS = """
UPDATE sessions SET ended_at = now(), end_reason = $2
WHERE user_id = $1 AND ended_at IS NULL RETURNING id
"""


class RecoveryRepository:
    """What people prove by mail."""

    def __init__(self, database: Database) -> None:
        """Store the database."""
        self._database = database

    async def post(self, occasion: Occasion) -> None:
        """Let a mail be sent soon."""
        async with self._database.platform() as connection:
            await post(connection, occasion)

    async def mint(self, kind: TokenKind, email_key: str) -> tuple[str, str] | None:
        """Return the stored address of a user and a token; None where there is nobody to get one.

        The mail must go to the stored address, not to the one that was typed: texts that are equal
        when case is folded may be different mailboxes.
        """
        async with self._database.platform() as connection:
            row = await connection.fetchrow(
                "SELECT id, email, email_verified_at FROM users"
                " WHERE email_key = $1 AND disabled_at IS NULL",
                email_key,
            )
            if row is None or (kind is TokenKind.VERIFY_EMAIL and row["email_verified_at"]):
                return None
            return row["email"], await mint(connection, kind, row["id"])

    async def stored_address(self, email_key: str) -> str | None:
        """Return an account's address as it was registered: that mailbox is its owner's."""
        async with self._database.platform() as connection:
            address: str | None = await connection.fetchval(
                "SELECT email FROM users WHERE email_key = $1", email_key
            )
        return address

    async def verify(self, token: str) -> bool:
        """Note that a token's user reads mail at the account's address; False: it is not valid."""
        async with self._database.platform() as connection:
            holder = await _holder(connection, TokenKind.VERIFY_EMAIL, token)
        if holder is None:
            return False
        async with self._database.tenant(None, holder.user_id) as connection:
            if await use(connection, TokenKind.VERIFY_EMAIL, token) is None:
                return False
            await connection.execute(
                "UPDATE users SET email_verified_at = coalesce(email_verified_at, now())"
                " WHERE id = $1",
                holder.user_id,
            )
            await record_everywhere(connection, PersonalAct(holder.user_id, Action.EMAIL_VERIFIED))
        return True

    async def holder(self, token: str) -> Person | None:
        """Return whose password a token may replace, without using it up."""
        async with self._database.platform() as connection:
            return await _holder(connection, TokenKind.RESET_PASSWORD, token)

    async def reset(self, user_id: UUID, token: str, new_hash: str) -> Revocation | None:
        """Use a token up for a new password; None where another use of it was faster.

        Who can read the mail owns the address: it counts as verified. Identities that somebody
        linked before that are not this person's, and go.
        """
        async with self._database.tenant(None, user_id) as connection:
            await connection.execute("SELECT FROM users WHERE id = $1 FOR UPDATE", user_id)
            if await use(connection, TokenKind.RESET_PASSWORD, token) is None:
                return None
            removed = await connection.fetch(
                "DELETE FROM user_identities i USING users u WHERE i.user_id = $1"
                " AND u.id = i.user_id AND u.email_verified_at IS NULL RETURNING i.issuer",
                user_id,
            )
            details = {"removed_identities": len(removed)}
            act = PersonalAct(user_id, Action.PASSWORD_RESET, details=details)
            return await replace_password(connection, act, new_hash)

    async def forget_expired(self) -> None:
        """Delete tokens that nobody can use any more."""
        async with self._database.platform() as connection:
            await connection.execute("DELETE FROM user_tokens WHERE expires_at < now()")


async def replace_password(connection: Connection, act: PersonalAct, new_hash: str) -> Revocation:
    """Set a new hash, end all sessions and API keys and void other proofs.

    In a transaction of the user. Whoever held the account before may have made the keys.
    """
    is_proof = not act.is_operators
    version = await connection.fetchval(_RESET, act.user_id, new_hash, is_proof)
    sessions = await end_sessions(connection, act.user_id, reason="password-reset")
    keys = await _end_keys(connection, act)
    await record_everywhere(connection, act)
    return Revocation(act.user_id, sessions | keys, version)


async def end_sessions(connection: Connection, user_id: UUID, *, reason: str) -> frozenset[UUID]:
    """End all sessions of a user and void what could open new ones; return the sessions."""
    rows = await connection.fetch(_END_SESSIONS, user_id, reason)
    await void(connection, user_id)
    return frozenset(row["id"] for row in rows)


async def _end_keys(connection: Connection, act: PersonalAct) -> frozenset[UUID]:
    """End all API keys of an act's user, each in the audit log of its tenant; return them."""
    rows = await connection.fetch(_END_KEYS, act.user_id)
    for row in rows:
        event = act.event(row["tenant_id"])
        details = {"prefix": row["prefix"], "reason": "password-reset"}
        subject = f"api-key:{row['id']}"
        ended = replace(event, action=Action.API_KEY_ENDED, subject=subject, details=details)
        await record_in_tenant(connection, ended)
    return frozenset(row["id"] for row in rows)


async def _holder(connection: Connection, kind: TokenKind, token: str) -> Person | None:
    row = await connection.fetchrow(_HOLDER, stored(token), kind)
    return Person(*row) if row is not None else None
