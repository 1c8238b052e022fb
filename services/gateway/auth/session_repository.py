"""Sessions and their refresh tokens in PostgreSQL."""

from collections.abc import Awaitable, Callable, Collection
from dataclasses import fields
from datetime import timedelta
from typing import TypeAlias
from uuid import UUID

import asyncpg

from planes.shared.domain import Role, TenantContext
from planes.shared.errors import NotFound, Unauthenticated
from planes.shared.stores.postgres import Connection, Database
from services.gateway.audit import Action, AuditEvent
from services.gateway.auth.audit_trail import record_in_tenant
from services.gateway.auth.models import (
    AccessClaims,
    NewSession,
    Rotation,
    SessionState,
    SessionSummary,
)
from services.gateway.limits.rates import PlanLimits
from services.gateway.limits.versions import Version

Standings: TypeAlias = Callable[[Collection[UUID]], Awaitable[dict[UUID, tuple[Version, Role]]]]

LIMIT_COLUMNS = tuple(each.name for each in fields(PlanLimits))
REFRESH_LIFETIME = timedelta(days=30)
_GRACE = timedelta(seconds=10)  # in which a repeated refresh is a retry, not a theft

_STATE = """
SELECT s.ended_at IS NULL AND u.disabled_at IS NULL AS is_alive, s.tenant_id, m.role,
       u.version AS user_version, m.version AS membership_version,
       p.requests_per_minute, p.chat_requests_per_minute, p.upload_requests_per_minute,
       p.search_requests_per_minute
FROM sessions s
JOIN users u ON u.id = s.user_id
JOIN memberships m ON m.user_id = s.user_id AND m.tenant_id = s.tenant_id
JOIN tenants t ON t.id = s.tenant_id
JOIN plans p ON p.name = t.plan
WHERE s.id = $1 AND s.user_id = $2
"""

_USE = """
UPDATE refresh_tokens r SET used_at = now()
WHERE r.token_hash = $1 AND r.used_at IS NULL AND r.expires_at > now()
  AND EXISTS (SELECT FROM sessions s WHERE s.id = r.session_id AND s.ended_at IS NULL)
RETURNING r.session_id
"""

_INSERT = """
INSERT INTO refresh_tokens (token_hash, session_id, user_id, expires_at)
VALUES ($1, $2, $3, now() + $4::interval)
"""

_SECOND_USE = """
SELECT r.session_id, r.user_id,
       r.expires_at <= now() OR s.ended_at IS NOT NULL AS is_dead,
       r.used_at > now() - $3::interval AND n.token_hash IS NOT NULL AND n.used_at IS NULL
           AS is_repeat
FROM refresh_tokens r
JOIN sessions s ON s.id = r.session_id
LEFT JOIN refresh_tokens n ON n.token_hash = $2
WHERE r.token_hash = $1
"""


class SessionRepository:
    """Which sessions are alive, and which refresh token of each may still be used."""

    def __init__(self, database: Database) -> None:
        """Store the database."""
        self._database = database

    async def open(self, session: NewSession, *, version: int) -> None:
        """Open a session and note that its user was last in this tenant.

        Whoever ends the user's sessions, the membership or the tenant meanwhile waits and sees it.

        Raises:
            Unauthenticated: The user's version is another one.
            NotFound: The user is no member.
        """
        context = session.context
        async with self._database.tenant(context.tenant_id, context.user_id) as connection:
            await hold_version(connection, context.user_id, version)
            is_member = await connection.fetchval(
                "UPDATE memberships SET last_used_at = now() WHERE user_id = $1 AND tenant_id = $2"
                " RETURNING true",
                context.user_id,
                context.tenant_id,
            )
            if not is_member:
                raise NotFound("You are not a member of such a tenant.")
            await insert_session(connection, session)

    async def state(self, user_id: UUID, session_id: UUID) -> SessionState | None:
        """Return how a session stands; None where it or its user's membership is gone."""
        async with self._database.tenant(None, user_id) as connection:
            row = await connection.fetchrow(_STATE, session_id, user_id)
        return _to_state(row, user_id, session_id) if row is not None else None

    async def standings(self, ids: Collection[UUID]) -> dict[UUID, tuple[Version, Role]]:
        """Return which of these sessions and API keys are alive, with version and role of each."""
        async with self._database.platform() as connection:
            return await standings(connection, ids)

    async def owner(self, token_hash: bytes) -> UUID | None:
        """Return the user of a refresh token, used or not."""
        async with self._database.platform() as connection:
            user_id: UUID | None = await connection.fetchval(
                "SELECT user_id FROM refresh_tokens WHERE token_hash = $1", token_hash
            )
        return user_id

    async def rotate(
        self, user_id: UUID, *, token_hash: bytes, successor_hash: bytes
    ) -> tuple[Rotation, UUID | None]:
        """Use a refresh token up, so that its successor takes its place.

        One conditional UPDATE picks the winner of parallel calls. The others, and repeats within
        ten seconds, get the same successor unless that one was used; later use ends the session.

        Returns:
            What became of the token, and its session.
        """
        async with self._database.tenant(None, user_id) as connection:
            session_id: UUID | None = await connection.fetchval(_USE, token_hash)
            if session_id is None:
                return await _judge_second_use(connection, token_hash, successor_hash)
            await connection.execute(_INSERT, successor_hash, session_id, user_id, REFRESH_LIFETIME)
            await connection.execute(
                "UPDATE sessions SET last_used_at = now() WHERE id = $1", session_id
            )
        return Rotation.ROTATED, session_id

    async def end(self, user_id: UUID, session_id: UUID, *, reason: str) -> bool:
        """End a session of a user; False where there was none alive."""
        async with self._database.tenant(None, user_id) as connection:
            return await _end(connection, user_id, session_id, reason)

    async def forget_expired(self) -> None:
        """Delete refresh tokens that nobody can use any more."""
        async with self._database.platform() as connection:
            await connection.execute("DELETE FROM refresh_tokens WHERE expires_at < now()")

    async def session_of(self, user_id: UUID, token_hash: bytes) -> UUID | None:
        """Return the session of a user's refresh token."""
        async with self._database.platform() as connection:
            session_id: UUID | None = await connection.fetchval(
                "SELECT session_id FROM refresh_tokens WHERE token_hash = $1 AND user_id = $2",
                token_hash,
                user_id,
            )
        return session_id

    async def alive(
        self, user_id: UUID, *, before: UUID | None, limit: int
    ) -> list[SessionSummary]:
        """Return the newest sessions of a user that are alive, opened before session `before`."""
        async with self._database.tenant(None, user_id) as connection:
            rows = await connection.fetch(
                "SELECT id, created_at, last_used_at, user_agent FROM sessions"
                " WHERE user_id = $1 AND ended_at IS NULL AND ($2::uuid IS NULL OR id < $2)"
                "   AND last_used_at > now() - $4::interval"
                " ORDER BY id DESC LIMIT $3",
                user_id,
                before,
                limit,
                REFRESH_LIFETIME,
            )
        return [SessionSummary(*row) for row in rows]


async def standings(
    connection: Connection, ids: Collection[UUID]
) -> dict[UUID, tuple[Version, Role]]:
    """As `SessionRepository.standings`, on a connection of the caller's."""
    rows = await connection.fetch("SELECT * FROM session_standings($1)", list(ids))
    return {row["id"]: (version_of(row), Role(row["role"])) for row in rows}


def version_of(row: "asyncpg.Record") -> Version:
    """Return the version of a row that names both of its numbers."""
    return Version(row["user_version"], row["membership_version"])


async def hold_version(connection: Connection, user_id: UUID, version: int) -> None:
    """Keep a user's version as it was when they were recognised until the transaction ends.

    New passwords, disabling and deletion raise it and then end what there is: with this lock they
    either refuse what is being opened here, or see it and end it. New roles and removals take the
    lock too, before they raise the membership's version.

    Raises:
        Unauthenticated: It is another one already, or the account is disabled.
    """
    is_same = await connection.fetchval(
        "SELECT true FROM users WHERE id = $1 AND version = $2 AND disabled_at IS NULL FOR SHARE",
        user_id,
        version,
    )
    if not is_same:
        raise Unauthenticated("The rights of this account have changed just now. Sign in again.")


async def insert_session(connection: Connection, session: NewSession) -> None:
    """Insert a session with its first refresh token into the transaction of `connection`."""
    await connection.execute(
        "INSERT INTO sessions (id, tenant_id, user_id, user_agent) VALUES ($1, $2, $3, $4)",
        session.session_id,
        session.context.tenant_id,
        session.context.user_id,
        session.user_agent,
    )
    await connection.execute(
        _INSERT,
        session.token_hash,
        session.session_id,
        session.context.user_id,
        REFRESH_LIFETIME,
    )
    context, subject = session.context, f"session:{session.session_id}"
    event = AuditEvent(context.tenant_id, Action.SIGNED_IN, context.user_id, subject=subject)
    await record_in_tenant(connection, event)


async def _judge_second_use(
    connection: Connection, token_hash: bytes, successor_hash: bytes
) -> tuple[Rotation, UUID | None]:
    row = await connection.fetchrow(_SECOND_USE, token_hash, successor_hash, _GRACE)
    if row is None or row["is_dead"]:
        return Rotation.INVALID, None
    if row["is_repeat"]:
        return Rotation.ROTATED, row["session_id"]
    await _end(connection, row["user_id"], row["session_id"], "refresh-reuse")
    return Rotation.REUSED, row["session_id"]


async def _end(connection: Connection, user_id: UUID, session_id: UUID, reason: str) -> bool:
    row = await connection.fetchrow(
        "UPDATE sessions SET ended_at = now(), end_reason = $3"
        " WHERE id = $1 AND user_id = $2 AND ended_at IS NULL RETURNING tenant_id",
        session_id,
        user_id,
        reason,
    )
    if row is None:
        return False
    action = Action.REFRESH_REUSED if reason == "refresh-reuse" else Action.SIGNED_OUT
    subject = f"session:{session_id}"
    details = {"reason": reason}
    event = AuditEvent(row["tenant_id"], action, user_id, subject=subject, details=details)
    await record_in_tenant(connection, event)
    return True


def _to_state(row: "asyncpg.Record", user_id: UUID, session_id: UUID) -> SessionState:
    claims = AccessClaims(
        context=TenantContext(tenant_id=row["tenant_id"], user_id=user_id),
        role=Role(row["role"]),
        session_id=session_id,
        version=version_of(row),
    )
    limits = PlanLimits(**{column: row[column] for column in LIMIT_COLUMNS})
    return SessionState(claims, row["is_alive"], limits)
