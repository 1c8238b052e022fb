"""Usage is the ledger, to the last digit, however it is cut: a property over a real PostgreSQL."""

import asyncio
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from planes.shared.domain import Role, TenantContext, new_id
from planes.shared.stores.postgres import Database
from services.gateway.auth.models import Account
from services.gateway.billing.schemas import UsageAnswer
from services.gateway.billing.service import BillingService

BEGIN = datetime(2026, 3, 1, tzinfo=UTC)
MINUTES = st.integers(0, 4 * 24 * 60)
ENTRIES = st.lists(
    st.tuples(
        MINUTES,
        st.sampled_from(["a", "b", "c"]),
        st.integers(0, 1),
        st.integers(0, 10**9),
        st.integers(0, 10**9),
        st.decimals(min_value=0, max_value=10**6, places=10),
    ),
    max_size=12,
)
_INSERT = (
    "INSERT INTO ledger (id, tenant_id, user_id, request_id, kind, period, model, mode, "
    "prompt_tokens, completion_tokens, cost_usd, created_at) "
    "VALUES ($1, $2, $3, $1, 'answer', '2026-03-01', $4, 'rag', $5, $6, $7, $8)"
)


async def _write(admin: Database, tenant: UUID, users: list[UUID], entries: list[Any]) -> None:
    async with admin.platform() as connection:
        await connection.execute("INSERT INTO tenants (id, name) VALUES ($1, 'a team')", tenant)
        for user in users:
            await connection.execute(
                "INSERT INTO users (id, email, email_key, password_hash, display_name) "
                "VALUES ($1, $2, $2, '', 'Ada')",
                user,
                str(user),
            )
        for minutes, model, who, prompt, completion, cost in entries:
            at = BEGIN + timedelta(minutes=minutes)
            values = (new_id(), tenant, users[who], model, prompt, completion, cost, at)
            await connection.execute(_INSERT, *values)


def _sums(parts: list[Any]) -> tuple[int, int, int, Decimal]:
    return (
        sum(part.messages for part in parts),
        sum(part.prompt_tokens for part in parts),
        sum(part.completion_tokens for part in parts),
        sum((Decimal(part.cost_usd) for part in parts), Decimal(0)),
    )


def test_items_add_up_to_the_totals_and_the_totals_to_the_ledger(
    database_urls: dict[str, str],
) -> None:
    with asyncio.Runner() as loop:
        admin = Database(database_urls["admin"], service="admin")
        database = Database(database_urls["gateway"], service="gateway")
        loop.run(admin.open())
        loop.run(database.open())

        @settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
        @given(entries=ENTRIES, bounds=st.lists(MINUTES, min_size=2, max_size=2, unique=True))
        def check(entries: list[Any], bounds: list[int]) -> None:
            tenant, users = new_id(), [new_id(), new_id()]
            loop.run(_write(admin, tenant, users, entries))
            start, end = sorted(bounds)
            span = (BEGIN + timedelta(minutes=start), BEGIN + timedelta(minutes=end))
            billing = BillingService(database)

            def usage(role: Role, user: UUID, group: Any) -> UsageAnswer:
                account = Account(TenantContext(tenant, user), role, new_id())
                return loop.run(billing.usage(account, *span, group))

            inside = [entry for entry in entries if start <= entry[0] < end]
            for role, user, mine in (
                (Role.OWNER, users[0], inside),
                (Role.MEMBER, users[1], [entry for entry in inside if entry[2] == 1]),
            ):
                for group in ("day", "model", "user")[: 3 if role is Role.OWNER else 2]:
                    answer = usage(role, user, group)
                    assert _sums(answer.items) == _sums([answer.totals])
                    assert _sums([answer.totals]) == (
                        len(mine),
                        sum(entry[3] for entry in mine),
                        sum(entry[4] for entry in mine),
                        sum((entry[5] for entry in mine), Decimal(0)),
                    )
                    keys = [(item.day, item.model, item.user_id) for item in answer.items]
                    assert len(keys) == len(set(keys))

        try:
            check()
        finally:
            loop.run(admin.close())
            loop.run(database.close())
