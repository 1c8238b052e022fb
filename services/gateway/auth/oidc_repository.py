"""Identities of OpenID providers in PostgreSQL, and the codes that end a sign-in by one."""

from uuid import UUID

from planes.shared.stores.postgres import Connection, Database
from services.gateway.audit import Action
from services.gateway.auth.audit_trail import PersonalAct, record_everywhere
from services.gateway.auth.models import Credentials, ProviderIdentity
from services.gateway.auth.one_time_tokens import TokenHolder, TokenKind, mint, use
from services.gateway.auth.session_repository import hold_version

_FIND = """
UPDATE user_identities i SET last_used_at = now() FROM users u
WHERE i.issuer = $1 AND i.subject = $2 AND u.id = i.user_id
RETURNING u.id, u.password_hash, u.disabled_at IS NOT NULL, u.email_verified_at IS NOT NULL,
    u.version
"""


class OidcRepository:
    """Which user an identity belongs to."""

    def __init__(self, database: Database) -> None:
        """Store the database."""
        self._database = database

    async def find(self, identity: ProviderIdentity) -> Credentials | None:
        """Return the user of an identity, None for a new one."""
        async with self._database.platform() as connection:
            row = await connection.fetchrow(_FIND, identity.issuer, identity.subject)
        return Credentials(*row) if row is not None else None

    async def link(self, identity: ProviderIdentity, user_id: UUID) -> None:
        """Let an identity open an account that there is; a repeat changes nothing."""
        async with self._database.tenant(None, user_id) as connection:
            if await insert_identity(connection, identity, user_id):
                act = PersonalAct(
                    user_id, Action.IDENTITY_LINKED, details={"issuer": identity.issuer}
                )
                await record_everywhere(connection, act)

    async def mint_code(self, found: Credentials, enters: UUID | None) -> str:
        """Return a code that opens one session of a user within a minute.

        Raises:
            Unauthenticated: The user has changed since being recognised.
        """
        async with self._database.tenant(None, found.user_id) as connection:
            await hold_version(connection, found.user_id, found.version)
            return await mint(connection, TokenKind.SIGN_IN, found.user_id, enters=enters)

    async def use_code(self, code: str) -> TokenHolder | None:
        """Use a code up; None where it is unknown, used or expired."""
        async with self._database.platform() as connection:
            return await use(connection, TokenKind.SIGN_IN, code)


async def insert_identity(
    connection: Connection, identity: ProviderIdentity, user_id: UUID
) -> bool:
    """Insert an identity into the transaction of `connection`; False where it is there."""
    row = await connection.fetchrow(
        "INSERT INTO user_identities (issuer, subject, user_id) VALUES ($1, $2, $3)"
        " ON CONFLICT DO NOTHING RETURNING user_id",
        identity.issuer,
        identity.subject,
        user_id,
    )
    return row is not None
