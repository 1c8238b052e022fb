"""What exports hold, table by table. No secrets and no hashes of secrets.

A person's export holds what is their own. A tenant's, which owners make, holds no messages; what
people said of answers is in it, as owners and admins may read that anyway.

Every query takes the tenant as $1, the user as $2, the last `id` of the page before as $3 and the
most rows as $4. Pages are transactions of their own: an export of hours holds no connection, and
rows that change meanwhile are exported as they were or as they are.
"""

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from planes.shared.domain import TenantContext
from planes.shared.stores.postgres import Database

_PAGE_ROWS = 500
_FIRST = UUID(int=0)
_DOCUMENT_COLUMNS = (
    "id, owner_id, name, tags, metadata, sha256, newest_version_id, published_version_id,"
    " created_at, updated_at"
)
_CONVERSATION_COLUMNS = "id, user_id, mode, message_count, created_at, updated_at"
_AUDIT_COLUMNS = (
    "id, actor_kind, actor_id, api_key_id, action, subject, details, address, trace_id, created_at"
)
_KEY_COLUMNS = "id, name, prefix, scopes, created_at, last_used_at, expires_at, ended_at"


@dataclass(frozen=True, slots=True)
class Source:
    """A table of an export: the rows of `query`, in pages where it names $3 and $4."""

    name: str
    query: str


def _paged(name: str, columns: str, table: str, where: str = "tenant_id = $1") -> Source:
    return Source(
        name,
        f"SELECT {columns} FROM {table} WHERE {where} AND id > $3"  # noqa: S608 (constants below)
        " AND $2::uuid IS NOT NULL ORDER BY id LIMIT $4",
    )


TENANT = Source(
    "tenant",
    "SELECT id, name, plan, documents_used, storage_bytes_used, created_at FROM tenants"
    " WHERE id = $1 AND $2::uuid IS NOT NULL",
)
MEMBERS = Source(
    "members",
    "SELECT m.user_id AS id, u.email, u.display_name, m.role, m.created_at AS joined_at"
    " FROM memberships m JOIN users u ON u.id = m.user_id"
    " WHERE m.tenant_id = $1 AND m.user_id > $3 AND $2::uuid IS NOT NULL"
    " ORDER BY m.user_id LIMIT $4",
)
DOCUMENTS = _paged(
    "documents", _DOCUMENT_COLUMNS, "documents", "tenant_id = $1 AND deleted_at IS NULL"
)
VERSIONS = _paged(
    "document_versions",
    "id, document_id, number, sha256, size_bytes, media_type, status, error, language, page_count,"
    " chunk_count, text_chars, created_at, published_at",
    "document_versions",
    "tenant_id = $1 AND document_id IN (SELECT d.id FROM documents d WHERE d.tenant_id = $1"
    " AND d.deleted_at IS NULL)",
)
_SAID = (
    "id, user_id, message_id, rating, comment, correction, model, citations, created_at, updated_at"
)
_SAID_OF = (
    "tenant_id = $1 AND message_id IN (SELECT a.message_id FROM answers a JOIN conversations c"
    " ON c.id = a.conversation_id AND c.deleted_at IS NULL WHERE a.tenant_id = $1)"
)
FEEDBACK = _paged("feedback", _SAID, "feedback", _SAID_OF)
TENANT_SOURCES = (
    TENANT,
    MEMBERS,
    _paged("invitations", "id, email, role, invited_by, created_at, expires_at", "invitations"),
    _paged("api_keys", f"{_KEY_COLUMNS}, user_id", "api_keys"),
    _paged("webhooks", "id, url, events, created_by, created_at, paused_at", "webhooks"),
    DOCUMENTS,
    VERSIONS,
    _paged("sources", "id, owner_id, kind, tags, delete_missing, created_at", "sources"),
    _paged(
        "conversations",
        _CONVERSATION_COLUMNS,
        "conversations",
        "tenant_id = $1 AND deleted_at IS NULL",
    ),
    FEEDBACK,
    _paged("ledger", "*", "ledger"),
    Source(
        "usage",
        "SELECT period, messages_used, tokens_used, cost_usd_used FROM quota_periods"
        " WHERE tenant_id = $1 AND $2::uuid IS NOT NULL ORDER BY period",
    ),
    _paged("plan_changes", "*", "plan_changes"),
    _paged("audit_log", _AUDIT_COLUMNS, "audit_log"),
)

PERSON = Source(
    "profile",
    "SELECT id, email, display_name, email_verified_at, created_at FROM users"
    " WHERE id = $2 AND $1::uuid IS NOT NULL",
)
MEMBERSHIPS = Source(
    "memberships",
    "SELECT m.tenant_id, t.name AS tenant_name, m.role, m.created_at AS joined_at, m.last_used_at"
    " FROM memberships m JOIN tenants t ON t.id = m.tenant_id"
    " WHERE m.user_id = $2 AND $1::uuid IS NOT NULL ORDER BY m.tenant_id",
)
ACCOUNT_SOURCES = (
    PERSON,
    MEMBERSHIPS,
    Source(
        "identities",
        "SELECT issuer, subject, created_at, last_used_at FROM user_identities"
        " WHERE user_id = $2 AND $1::uuid IS NOT NULL ORDER BY issuer, subject",
    ),
    _paged(
        "sessions",
        "id, tenant_id, user_agent, created_at, last_used_at, ended_at, end_reason",
        "sessions",
        "user_id = $2 AND $1::uuid IS NOT NULL",
    ),
    _paged(
        "api_keys",
        f"{_KEY_COLUMNS}, tenant_id",
        "api_keys",
        "user_id = $2 AND $1::uuid IS NOT NULL",
    ),
)
PERSONAL_SOURCES = (  # of one tenant
    _paged("feedback", _SAID, "feedback", f"{_SAID_OF} AND user_id = $2"),
    _paged("usage", "*", "ledger", "tenant_id = $1 AND user_id = $2"),
    _paged(
        "uploads",
        _DOCUMENT_COLUMNS,
        "documents",
        "tenant_id = $1 AND owner_id = $2 AND deleted_at IS NULL",
    ),
    _paged("audit_log", _AUDIT_COLUMNS, "audit_log", "tenant_id = $1 AND actor_id = $2"),
)


async def pages(
    database: Database, source: Source, context: TenantContext
) -> AsyncGenerator[list[dict[str, Any]], None]:
    """Yield the rows of a source."""
    ids = (context.tenant_id, context.user_id)
    if "$4" not in source.query:
        async with database.tenant(*ids) as connection:
            rows = await connection.fetch(source.query, *ids)
        yield [dict(row) for row in rows]
        return
    last: UUID | None = _FIRST
    while last is not None:
        async with database.tenant(*ids) as connection:
            rows = await connection.fetch(source.query, *ids, last, _PAGE_ROWS)
        yield [dict(row) for row in rows]
        last = rows[-1]["id"] if len(rows) == _PAGE_ROWS else None
