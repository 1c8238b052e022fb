"""What invoices are rebuilt from, in SQL."""

from datetime import date

import asyncpg

from planes.shared.domain import TenantContext
from planes.shared.stores.postgres import Connection


async def entries(
    connection: Connection, context: TenantContext, period: date | None = None
) -> list[asyncpg.Record]:
    """Return sums over the ledger by month, kind and model, the newest month first.

    The `model` of a subscription is its plan, charged by the terms of `terms_id`.
    """
    return await connection.fetch(
        "SELECT period, kind, model, count(*) FILTER (WHERE kind <> 'embedding') AS messages, "
        "sum(prompt_tokens)::bigint AS prompt_tokens, "
        "sum(completion_tokens)::bigint AS completion_tokens, sum(cost_usd) AS amount_usd, "
        "max(terms_id) AS terms_id "
        "FROM ledger WHERE tenant_id = $1 AND ($2::date IS NULL OR period = $2) "
        "GROUP BY period, kind, model "
        "ORDER BY period DESC, kind, model",
        context.tenant_id,
        period,
    )


async def periods(connection: Connection, context: TenantContext) -> list[date]:
    """Return the months in which something was billed, newest first."""
    rows = await connection.fetch(
        "SELECT DISTINCT period FROM ledger WHERE tenant_id = $1 ORDER BY period DESC",
        context.tenant_id,
    )
    return [row["period"] for row in rows]


async def plan_history(connection: Connection, context: TenantContext) -> list[asyncpg.Record]:
    """Return a tenant's plan changes as (period, from_plan, to_plan), oldest first."""
    return await connection.fetch(
        "SELECT period, from_plan, to_plan FROM plan_changes WHERE tenant_id = $1 "
        "ORDER BY changed_at, id",
        context.tenant_id,
    )


async def plan_terms(connection: Connection) -> list[asyncpg.Record]:
    """Return what every plan promised, and from when on; oldest first."""
    return await connection.fetch("SELECT * FROM plan_terms ORDER BY id")


async def tenant(connection: Connection, context: TenantContext) -> asyncpg.Record:
    """Return a tenant's id, name and plan, and the month it is."""
    row = await connection.fetchrow(
        "SELECT id, name, plan, current_period() AS current_period FROM tenants WHERE id = $1",
        context.tenant_id,
    )
    assert row is not None  # noqa: S101 (a verified token names an existing tenant)
    return row
