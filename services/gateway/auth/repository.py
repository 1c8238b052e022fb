"""Users, tenants and memberships in PostgreSQL."""

from uuid import UUID

import asyncpg

from planes.shared.domain import Role, TenantContext
from planes.shared.errors import Conflict
from planes.shared.stores.postgres import Connection, Database
from services.gateway.audit import Action, AuditEvent, record
from services.gateway.auth.audit_trail import PersonalAct, record_everywhere
from services.gateway.auth.models import (
    Credentials,
    NewAccount,
    NewSession,
    Person,
    Profile,
    ProviderIdentity,
)
from services.gateway.auth.oidc_repository import insert_identity
from services.gateway.auth.one_time_tokens import void
from services.gateway.auth.session_repository import insert_session

_CREDENTIALS = """
SELECT id, password_hash, disabled_at IS NOT NULL AS is_disabled,
       email_verified_at IS NOT NULL AS is_verified, version
FROM users"""

_LAST_TENANT = """
SELECT tenant_id FROM memberships
WHERE user_id = $1 AND ($2::uuid IS NULL OR tenant_id = $2)
ORDER BY last_used_at DESC LIMIT 1
"""


class UserRepository:
    """Who there is, and which tenants they belong to."""

    def __init__(self, database: Database) -> None:
        """Store the database."""
        self._database = database

    async def create(
        self,
        account: NewAccount,
        *,
        session: NewSession | None = None,
        identity: ProviderIdentity | None = None,
    ) -> None:
        """Create a user and a tenant that the user owns: all or none.

        Args:
            account: Who it is.
            session: A first session.
            identity: Who the user is at an OpenID provider.

        Raises:
            Conflict: The e-mail address is registered.
        """
        context = account.profile.context
        try:
            async with self._database.tenant(context.tenant_id, context.user_id) as connection:
                await _insert_account(connection, account)
                if identity is not None:
                    await insert_identity(connection, identity, context.user_id)
                if session is not None:
                    await insert_session(connection, session)
        except asyncpg.UniqueViolationError as error:
            raise Conflict(
                "An account with this e-mail address exists. Sign in instead."
            ) from error

    async def credentials_of_email(self, email_key: str) -> Credentials | None:
        """Return what a sign-in with an e-mail address is checked against."""
        return await self._credentials(f"{_CREDENTIALS} WHERE email_key = $1", email_key)

    async def credentials_of_user(self, user_id: UUID) -> Credentials | None:
        """Return what a change of password is checked against."""
        return await self._credentials(f"{_CREDENTIALS} WHERE id = $1", user_id)

    async def profile(self, context: TenantContext) -> Profile | None:
        """Return a user as a member of a tenant, or None for a stranger."""
        async with self._database.tenant(context.tenant_id, context.user_id) as connection:
            row = await connection.fetchrow(
                "SELECT m.role, u.email, u.display_name, t.name AS tenant_name, t.plan"
                " FROM memberships m JOIN users u ON u.id = m.user_id"
                " JOIN tenants t ON t.id = m.tenant_id"
                " WHERE m.user_id = $1 AND m.tenant_id = $2",
                context.user_id,
                context.tenant_id,
            )
        if row is None:
            return None
        values = dict(row)
        return Profile(context=context, role=Role(values.pop("role")), **values)

    async def tenant_to_enter(self, user_id: UUID, wanted: UUID | None) -> UUID | None:
        """Return the wanted tenant, or else the last used; None where the user is no member."""
        async with self._database.tenant(None, user_id) as connection:
            tenant_id: UUID | None = await connection.fetchval(_LAST_TENANT, user_id, wanted)
        return tenant_id

    async def enter_new_tenant(self, profile: Profile) -> UUID | None:
        """Give a user without any tenant one to own, or return the last used of those there are.

        Parallel calls make one. None where the account was disabled or deleted meanwhile.
        """
        context = profile.context
        async with self._database.tenant(context.tenant_id, context.user_id) as connection:
            is_let_in = await connection.fetchval(
                "SELECT true FROM users WHERE id = $1 AND disabled_at IS NULL FOR UPDATE",
                context.user_id,
            )
            if not is_let_in:
                return None
            found: UUID | None = await connection.fetchval(_LAST_TENANT, context.user_id, None)
            if found is None:
                await _insert_tenant(connection, profile)
        return found or context.tenant_id

    async def person(self, user_id: UUID) -> Person | None:
        """Return a user, whatever the tenant."""
        async with self._database.platform() as connection:
            row = await connection.fetchrow(
                "SELECT id, email, display_name FROM users WHERE id = $1", user_id
            )
        return Person(*row) if row is not None else None

    async def change_password(
        self, user_id: UUID, *, old_hash: str, new_hash: str, kept_session: UUID
    ) -> tuple[int, list[UUID]]:
        """Replace the hash, raise the user's version and end the other sessions.

        Returns:
            The new version, and the sessions that were ended.

        Raises:
            Conflict: The password was changed meanwhile.
        """
        async with self._database.tenant(None, user_id) as connection:
            version: int | None = await connection.fetchval(
                "UPDATE users SET password_hash = $3, version = version + 1"
                " WHERE id = $1 AND password_hash = $2 RETURNING version",
                user_id,
                old_hash,
                new_hash,
            )
            if version is None:
                raise Conflict("The password was changed meanwhile.")
            ended = await connection.fetch(
                "UPDATE sessions SET ended_at = now(), end_reason = 'password'"
                " WHERE user_id = $1 AND id <> $2 AND ended_at IS NULL RETURNING id",
                user_id,
                kept_session,
            )
            await void(connection, user_id)
            act = PersonalAct(user_id, Action.PASSWORD_CHANGED)
            await record_everywhere(connection, act)
        return version, [row["id"] for row in ended]

    async def _credentials(self, query: str, value: object) -> Credentials | None:
        async with self._database.platform() as connection:
            row = await connection.fetchrow(query, value)
        return Credentials(*row) if row is not None else None


async def _insert_account(connection: Connection, account: NewAccount) -> None:
    profile = account.profile
    user_id, tenant_id = profile.context.user_id, profile.context.tenant_id
    await connection.execute(
        "INSERT INTO users (id, email, email_key, password_hash, display_name, email_verified_at)"
        " VALUES ($1, $2, $3, $4, $5, CASE WHEN $6 THEN now() END)",
        user_id,
        profile.email,
        account.email_key,
        account.password_hash,
        profile.display_name,
        account.is_verified,
    )
    await _insert_tenant(connection, profile)
    subject = f"user:{user_id}"
    await record(connection, AuditEvent(tenant_id, Action.REGISTERED, user_id, subject=subject))


async def _insert_tenant(connection: Connection, profile: Profile) -> None:
    tenant_id = profile.context.tenant_id
    await connection.execute(
        "INSERT INTO tenants (id, name, plan) VALUES ($1, $2, $3)",
        tenant_id,
        profile.tenant_name,
        profile.plan,
    )
    await connection.execute(
        "INSERT INTO memberships (tenant_id, user_id, role) VALUES ($1, $2, $3)",
        tenant_id,
        profile.context.user_id,
        profile.role,
    )
