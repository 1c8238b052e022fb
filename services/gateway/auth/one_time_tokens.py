"""Tokens of 256 bits that prove one thing once; only their hashes are stored."""

import hashlib
import secrets
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from uuid import UUID

from planes.shared.stores.postgres import Connection


class TokenKind(StrEnum):
    """What a token is good for."""

    VERIFY_EMAIL = "verify-email"
    RESET_PASSWORD = "reset-password"  # noqa: S105 (the name of a kind)
    SIGN_IN = "sign-in"

    @property
    def lifetime(self) -> timedelta:
        """How long a token may be used."""
        return _LIFETIMES[self]


_LIFETIMES = {
    TokenKind.VERIFY_EMAIL: timedelta(hours=24),
    TokenKind.RESET_PASSWORD: timedelta(minutes=30),
    TokenKind.SIGN_IN: timedelta(seconds=60),
}

_USE = """
UPDATE user_tokens t SET used_at = now() FROM users u
WHERE t.token_hash = $1 AND t.kind = $2 AND t.used_at IS NULL AND t.expires_at > now()
  AND u.id = t.user_id AND u.disabled_at IS NULL
RETURNING t.user_id, t.enters, u.version
"""


@dataclass(frozen=True, slots=True)
class TokenHolder:
    """Whom a token speaks for; `enters` is the tenant that a sign-in asked for.

    `version` is the user's when the token was used.
    """

    user_id: UUID
    enters: UUID | None
    version: int


async def mint(
    connection: Connection, kind: TokenKind, user_id: UUID, *, enters: UUID | None = None
) -> str:
    """Return a new token for a user, stored as its hash."""
    token = secrets.token_urlsafe(32)
    await connection.execute(
        "INSERT INTO user_tokens (token_hash, kind, user_id, enters, expires_at)"
        " VALUES ($1, $2, $3, $4, now() + $5::interval)",
        stored(token),
        kind,
        user_id,
        enters,
        kind.lifetime,
    )
    return token


async def use(connection: Connection, kind: TokenKind, token: str) -> TokenHolder | None:
    """Use a token up; None where it is unknown, used, expired or its user is disabled.

    One conditional UPDATE picks the winner of parallel uses.
    """
    row = await connection.fetchrow(_USE, stored(token), kind)
    return TokenHolder(*row) if row is not None else None


async def void(connection: Connection, user_id: UUID) -> None:
    """Void what could open an account: its outstanding password resets and sign-ins."""
    await connection.execute(
        "DELETE FROM user_tokens WHERE user_id = $1 AND kind = ANY ($2) AND used_at IS NULL",
        user_id,
        [TokenKind.RESET_PASSWORD, TokenKind.SIGN_IN],
    )


def stored(token: str) -> bytes:
    """Return the form in which a token is stored."""
    return hashlib.sha256(token.encode()).digest()
