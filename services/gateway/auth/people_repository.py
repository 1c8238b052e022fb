"""People as the operator of the platform sees them, in PostgreSQL."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from planes.shared.stores.postgres import Database
from services.gateway.audit import Action
from services.gateway.auth.audit_trail import PersonalAct, record_everywhere
from services.gateway.auth.models import Person
from services.gateway.auth.recovery_repository import end_sessions, replace_password
from services.gateway.limits.revocations import Revocation


@dataclass(frozen=True, slots=True)
class PersonSummary:
    """One line of the operator's list."""

    id: UUID
    email: str
    display_name: str
    created_at: datetime
    is_verified: bool
    is_disabled: bool
    tenant_ids: tuple[UUID, ...]


class PeopleRepository:
    """What an operator does to people; each act stands in the audit log of all their tenants."""

    def __init__(self, database: Database) -> None:
        """Store the database."""
        self._database = database

    async def find(self, email_key: str) -> Person | None:
        """Return the user of an address."""
        async with self._database.platform() as connection:
            row = await connection.fetchrow(
                "SELECT id, email, display_name FROM users"
                " WHERE email_key = $1 AND deleted_at IS NULL",
                email_key,
            )
        return Person(*row) if row is not None else None

    async def after(self, last: UUID | None, limit: int) -> list[PersonSummary]:
        """Return users in the order in which they came, those after user `last`."""
        async with self._database.platform() as connection:
            rows = await connection.fetch(
                "SELECT id, email, display_name, created_at,"
                " email_verified_at IS NOT NULL AS is_verified,"
                " disabled_at IS NOT NULL AS is_disabled FROM users"
                " WHERE deleted_at IS NULL AND ($1::uuid IS NULL OR id > $1)"
                " ORDER BY id LIMIT $2",
                last,
                limit,
            )
            found = await connection.fetch(
                "SELECT * FROM tenants_of($1)", [row["id"] for row in rows]
            )
        tenants = {row["user_id"]: tuple(row["tenant_ids"]) for row in found}
        return [PersonSummary(**row, tenant_ids=tenants.get(row["id"], ())) for row in rows]

    async def reset_password(self, user_id: UUID, new_hash: str) -> Revocation:
        """Set a password that the operator has chosen, and end all sessions and API keys."""
        act = PersonalAct(user_id, Action.PASSWORD_RESET, is_operators=True)
        async with self._database.tenant(None, user_id) as connection:
            return await replace_password(connection, act, new_hash)

    async def disable(self, user_id: UUID) -> Revocation:
        """Keep a user out: ends all sessions and voids every token. Can be repeated."""
        async with self._database.tenant(None, user_id) as connection:
            version = await connection.fetchval(
                "UPDATE users SET disabled_at = coalesce(disabled_at, now()), version = version + 1"
                " WHERE id = $1 RETURNING version",
                user_id,
            )
            sessions = await end_sessions(connection, user_id, reason="disabled")
            act = PersonalAct(user_id, Action.USER_DISABLED, is_operators=True)
            await record_everywhere(connection, act)
        return Revocation(user_id, sessions, version)

    async def enable(self, user_id: UUID) -> None:
        """Let a user in again."""
        async with self._database.tenant(None, user_id) as connection:
            await connection.execute("UPDATE users SET disabled_at = NULL WHERE id = $1", user_id)
            act = PersonalAct(user_id, Action.USER_ENABLED, is_operators=True)
            await record_everywhere(connection, act)
