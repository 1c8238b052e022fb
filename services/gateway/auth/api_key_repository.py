"""API keys in PostgreSQL, and how one that is presented stands."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import asyncpg

from planes.shared.domain import Role, TenantContext
from planes.shared.errors import Conflict, Unauthenticated
from planes.shared.stores.postgres import Connection, Database
from services.gateway import audit
from services.gateway.auth.models import AccessClaims, Account, ApiScope, SessionState
from services.gateway.auth.session_repository import (
    LIMIT_COLUMNS,
    hold_version,
    version_of,
)
from services.gateway.billing.features import Feature, require_feature
from services.gateway.limits.rates import PlanLimits

MAX_KEYS = 50

_LIVE = "ended_at IS NULL AND (expires_at IS NULL OR expires_at > now())"
_INSERT = """
INSERT INTO api_keys (id, tenant_id, user_id, name, prefix, key_hash, scopes, expires_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
RETURNING id, name, prefix, scopes, created_at, last_used_at, expires_at
"""
_PAGE = """
SELECT id, name, prefix, scopes, created_at, last_used_at, expires_at FROM api_keys
WHERE tenant_id = $1 AND user_id = $2 AND ended_at IS NULL AND ($3::uuid IS NULL OR id < $3)
ORDER BY id DESC LIMIT $4
"""


@dataclass(frozen=True, slots=True)
class NewApiKey:
    """A row for a key; the key itself is not in it."""

    id: UUID
    name: str
    prefix: str
    key_hash: bytes
    scopes: frozenset[ApiScope]
    expires_at: datetime | None


@dataclass(frozen=True, slots=True)
class ApiKeySummary:
    """A key as its maker sees it; `last_used_at` is right to the minute."""

    id: UUID
    name: str
    prefix: str
    scopes: list[ApiScope]
    created_at: datetime
    last_used_at: datetime | None
    expires_at: datetime | None


@dataclass(frozen=True, slots=True)
class ApiKeyState:
    """A key that is alive; it acts as its maker, with the role that the maker has now."""

    session: SessionState
    scopes: frozenset[ApiScope]
    expires_at: datetime | None


class ApiKeyRepository:
    """Which keys there are; hashes only."""

    def __init__(self, database: Database) -> None:
        """Store the database."""
        self._database = database

    async def add(self, account: Account, new: NewApiKey) -> ApiKeySummary:
        """Store a key of the caller in this tenant.

        Raises:
            Conflict: The caller has as many keys as anybody may have.
            Forbidden: The plan has no API keys.
            Unauthenticated: The session's rights have ended meanwhile.
        """
        context = account.context
        async with self._database.tenant(context.tenant_id, context.user_id) as connection:
            await require_feature(connection, context.tenant_id, Feature.API_KEYS)
            await hold_version(connection, context.user_id, account.version.user)
            await _check_number(connection, account)
            [row] = await connection.fetch(
                _INSERT,
                new.id,
                context.tenant_id,
                context.user_id,
                new.name,
                new.prefix,
                new.key_hash,
                sorted(new.scopes),
                new.expires_at,
            )
            details = {"prefix": new.prefix, "scopes": sorted(new.scopes)}
            await audit.record(
                connection, _event(account, audit.Action.API_KEY_MADE, new.id, details)
            )
        return _summary(row)

    async def page(
        self, context: TenantContext, *, before: UUID | None, limit: int
    ) -> list[ApiKeySummary]:
        """Return the caller's newest keys in this tenant, ended ones left out, before `before`."""
        async with self._database.tenant(context.tenant_id, context.user_id) as connection:
            rows = await connection.fetch(_PAGE, context.tenant_id, context.user_id, before, limit)
        return [_summary(row) for row in rows]

    async def end(self, account: Account, key_id: UUID) -> bool:
        """End one of the caller's keys in this tenant; False where there is no such key."""
        context = account.context
        async with self._database.tenant(context.tenant_id, context.user_id) as connection:
            prefix = await connection.fetchval(
                "UPDATE api_keys SET ended_at = now() WHERE id = $1 AND tenant_id = $2"
                " AND user_id = $3 AND ended_at IS NULL RETURNING prefix",
                key_id,
                context.tenant_id,
                context.user_id,
            )
            if prefix is None:
                return False
            event = _event(account, audit.Action.API_KEY_ENDED, key_id, {"prefix": prefix})
            await audit.record(connection, event)
        return True

    async def standing(self, key_hash: bytes) -> ApiKeyState | None:
        """Return how a key stands, and note its use; None where it opens nothing."""
        async with self._database.platform() as connection:
            row = await connection.fetchrow("SELECT * FROM api_key_standing($1)", key_hash)
        if row is None:
            return None
        claims = AccessClaims(
            context=TenantContext(tenant_id=row["tenant_id"], user_id=row["user_id"]),
            role=Role(row["role"]),
            session_id=row["id"],
            version=version_of(row),
        )
        limits = PlanLimits(**{column: row[column] for column in LIMIT_COLUMNS})
        scopes = frozenset(map(ApiScope, row["scopes"]))
        session = SessionState(claims, is_alive=True, limits=limits)
        return ApiKeyState(session, scopes, row["expires_at"])


def _summary(row: "asyncpg.Record") -> ApiKeySummary:
    return ApiKeySummary(**dict(row) | {"scopes": [ApiScope(each) for each in row["scopes"]]})


async def _check_number(connection: Connection, account: Account) -> None:
    """Refuse one key too many; the lock keeps parallel calls from slipping through together."""
    context = account.context
    is_same = await connection.fetchval(
        "SELECT true FROM memberships WHERE user_id = $1 AND tenant_id = $2 AND version = $3"
        " FOR UPDATE",
        context.user_id,
        context.tenant_id,
        account.version.membership,
    )
    if not is_same:
        raise Unauthenticated("Your rights in this tenant have changed just now. Sign in again.")
    number = await connection.fetchval(
        f"SELECT count(*) FROM api_keys WHERE tenant_id = $1 AND user_id = $2"  # noqa: S608 (ours)
        f" AND {_LIVE}",
        context.tenant_id,
        context.user_id,
    )
    if number >= MAX_KEYS:
        raise Conflict(
            f"You have {MAX_KEYS} API keys in this tenant. End one that you do not need."
        )


def _event(
    account: Account, action: audit.Action, key_id: UUID, details: Mapping[str, object]
) -> audit.AuditEvent:
    return audit.AuditEvent(
        account.context.tenant_id, action, account, subject=f"api-key:{key_id}", details=details
    )
