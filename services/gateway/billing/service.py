"""Usage, read from the ledger, and quotas, read where they are enforced."""

from datetime import UTC, datetime

import asyncpg

from planes.shared.domain import Role
from planes.shared.errors import Forbidden, InvalidInput
from planes.shared.stores.postgres import Database
from services.gateway.auth.models import Account
from services.gateway.billing import repository
from services.gateway.billing.prices import money, usage_of
from services.gateway.billing.schemas import (
    GroupBy,
    Period,
    Plan,
    PlansAnswer,
    Quota,
    Quotas,
    UsageAnswer,
    UsageItem,
    UsageTotals,
)


class BillingService:
    """What the tenant used and may still use."""

    def __init__(self, database: Database) -> None:
        """Store the database."""
        self._database = database

    async def usage(
        self, account: Account, start: datetime | None, end: datetime | None, group_by: GroupBy
    ) -> UsageAnswer:
        """Return usage in a span (the current month unless told otherwise) and the quotas.

        Owners and admins see the whole tenant, others themselves.

        Raises:
            Forbidden: Only owners and admins may group by user.
            InvalidInput: The span is empty.
        """
        sees_all = account.role.rank >= Role.ADMIN.rank
        if group_by == "user" and not sees_all:
            raise Forbidden("Only owners and admins see the usage of others.")
        user = None if sees_all else account.context.user_id
        async with self._database.tenant(account.context.tenant_id) as connection:
            plan = await repository.standing(connection, account.context)
            span = (
                _utc(start) or datetime.combine(plan["period"], datetime.min.time(), UTC),
                _utc(end) or plan["resets_at"],
            )
            if span[0] >= span[1]:
                raise InvalidInput("`from` must be earlier than `to`.")
            totals = await repository.totals(connection, account.context, span, user)
            items = await repository.grouped(connection, account.context, span, user, group_by)
        return UsageAnswer(
            plan=plan["name"],
            period=Period(from_=span[0], to=span[1]),
            totals=UsageTotals(**_sums(totals)),
            quotas=_quotas(plan),
            items=[UsageItem(**_sums(row), **_key(row["key"], group_by)) for row in items],
        )

    async def quotas(self, account: Account) -> Quotas:
        """Return what the plan leaves, reservations included."""
        async with self._database.tenant(account.context.tenant_id) as connection:
            return _quotas(await repository.standing(connection, account.context))

    async def plans(self, account: Account) -> PlansAnswer:
        """Return the tiers and the tenant's own."""
        async with self._database.tenant(account.context.tenant_id) as connection:
            current = await repository.standing(connection, account.context)
            rows = await repository.plans(connection)
        return PlansAnswer(current=current["name"], items=[_plan(row) for row in rows])


def _utc(value: datetime | None) -> datetime | None:
    if value is None:
        return None
    if not 2000 <= value.year < 3000:
        raise InvalidInput("`from` and `to` lie between the years 2000 and 3000.")
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def _sums(row: asyncpg.Record) -> dict[str, object]:
    usage = usage_of(row["prompt_tokens"], row["completion_tokens"], row["cost_usd"])
    return {"messages": row["messages"], **usage.model_dump()}


def _key(value: object, group_by: GroupBy) -> dict[str, object]:
    return {"user_id" if group_by == "user" else group_by: value}


def _quotas(plan: asyncpg.Record) -> Quotas:
    monthly = plan["resets_at"]
    return Quotas(
        messages=_quota(plan["messages_per_month"], plan["messages_taken"], monthly),
        tokens=_quota(plan["tokens_per_month"], plan["tokens_taken"], monthly),
        documents=_quota(plan["documents"], plan["documents_used"], None),
        storage_bytes=_quota(plan["storage_bytes"], plan["storage_bytes_used"], None),
    )


def _quota(limit: int | None, used: int, resets_at: datetime | None) -> Quota:
    remaining = None if limit is None else max(0, limit - used)
    return Quota(limit=limit, used=used, remaining=remaining, resets_at=resets_at)


def _plan(row: asyncpg.Record) -> Plan:
    amounts = ("monthly_price_usd", "included_usage_usd")
    fields = {name: row[name] for name in Plan.model_fields if name not in amounts}
    included = row["included_usage_usd"]
    return Plan(
        monthly_price_usd=money(row["monthly_price_usd"]),
        included_usage_usd=None if included is None else money(included),
        **fields,
    )
