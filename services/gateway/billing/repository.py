"""Usage, quotas and plans in SQL."""

from datetime import datetime
from uuid import UUID

import asyncpg

from planes.shared.domain import TenantContext
from planes.shared.stores.postgres import Connection
from services.gateway.billing.schemas import GroupBy

_SUMS = (
    "count(*) FILTER (WHERE kind = 'answer') AS messages, "
    "coalesce(sum(prompt_tokens), 0)::bigint AS prompt_tokens, "
    "coalesce(sum(completion_tokens), 0)::bigint AS completion_tokens, "
    "coalesce(sum(cost_usd), 0) AS cost_usd"
)
_WHERE = (
    "FROM ledger WHERE tenant_id = $1 AND kind IN ('answer', 'embedding') "
    "AND created_at >= $2 AND created_at < $3 "
    "AND ($4::uuid IS NULL OR user_id = $4)"
)
_GROUPS: dict[GroupBy, str] = {
    "day": "(created_at AT TIME ZONE 'UTC')::date",
    "model": "model",
    "user": "user_id",
}


async def totals(
    connection: Connection,
    context: TenantContext,
    span: tuple[datetime, datetime],
    user: UUID | None,
) -> asyncpg.Record:
    """Return sums over the ledger in a span, of one user or of all."""
    row = await connection.fetchrow(
        f"SELECT {_SUMS} {_WHERE}",
        context.tenant_id,
        *span,
        user,
    )
    assert row is not None  # noqa: S101 (an aggregate always has a row)
    return row


async def grouped(
    connection: Connection,
    context: TenantContext,
    span: tuple[datetime, datetime],
    user: UUID | None,
    group_by: GroupBy,
) -> list[asyncpg.Record]:
    """Return the same sums for each day, model or user."""
    return await connection.fetch(
        f"SELECT {_GROUPS[group_by]} AS key, {_SUMS} {_WHERE} GROUP BY 1 ORDER BY 1",
        context.tenant_id,
        *span,
        user,
    )


async def standing(connection: Connection, context: TenantContext) -> asyncpg.Record:
    """Return the tenant's plan with what is used of it in this period, reservations included."""
    row = await connection.fetchrow(
        "SELECT p.*, t.documents_used, t.storage_bytes_used, current_period() AS period, "
        "(current_period() + interval '1 month') AT TIME ZONE 'UTC' AS resets_at, "
        "coalesce(q.messages_used + q.messages_reserved, 0) AS messages_taken, "
        "coalesce(q.tokens_used + q.tokens_reserved, 0) AS tokens_taken "
        "FROM tenants t JOIN plans p ON p.name = t.plan "
        "LEFT JOIN quota_periods q ON q.tenant_id = t.id AND q.period = current_period() "
        "WHERE t.id = $1",
        context.tenant_id,
    )
    assert row is not None  # noqa: S101 (a verified token names an existing tenant)
    return row


async def plans(connection: Connection) -> list[asyncpg.Record]:
    """Return the tiers, cheapest first."""
    return await connection.fetch("SELECT * FROM plans ORDER BY position")


async def prices(connection: Connection) -> list[asyncpg.Record]:
    """Return the price of every model; "*" is the price of those without a row."""
    return await connection.fetch("SELECT * FROM prices")
