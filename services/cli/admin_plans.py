"""`polyplane admin`: plans and books."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, TypeVar
from uuid import UUID

import typer

from planes.shared.errors import PlatformError
from planes.shared.stores.postgres import Database
from services.cli.admin_people import open_redis, running
from services.cli.terminal import console, errors
from services.embedded.installation import Installation
from services.gateway.auth.tokens import TokenRules
from services.gateway.billing.administration import BillingAdministration
from services.gateway.billing.plan_changes import PlanChanges
from services.gateway.billing.plan_repository import PlanChange
from services.gateway.limits.gate import SessionGate
from services.gateway.limits.scripts import RedisScripts

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class _Desk:
    """What the commands work with."""

    administration: BillingAdministration
    plan_changes: PlanChanges


def set_plan(
    plan: Annotated[str, typer.Option(help="Name of the plan, as `list-plans` shows it.")],
    tenant: Annotated[UUID | None, typer.Option(help="Id of the tenant.")] = None,
    email: Annotated[str | None, typer.Option(help="Address of the tenant's owner.")] = None,
) -> None:
    """Move a tenant to a plan; it is charged for the month at once, limits act within a second."""
    if (tenant is None) == (email is None):
        errors.print("Name the tenant by --tenant or by --email of its owner.")
        raise typer.Exit(2)

    async def change(desk: _Desk) -> None:
        tenant_id = tenant or await desk.administration.tenant_owned_by(email or "")
        changed = await desk.plan_changes.change(PlanChange(tenant_id, plan, "operator"))
        if not changed.is_change:
            console.print(f"Tenant {tenant_id} is on {plan} already.", markup=False)
            return
        charged = f" Charged for this month: {changed.charged_usd:.2f} USD."
        text = f"Tenant {tenant_id}: {changed.from_plan} -> {changed.to_plan}."
        console.print(text + (charged if changed.charged_usd else ""), markup=False)

    _act(change)


def list_plans() -> None:
    """List the plans with their price and their quotas a month."""

    async def show(desk: _Desk) -> None:
        for row in await desk.administration.plans():
            quotas = ", ".join(
                f"{row[column]:,} {unit}" if row[column] is not None else f"any {unit}"
                for column, unit in (
                    ("messages_per_month", "messages"),
                    ("tokens_per_month", "tokens"),
                    ("documents", "documents"),
                )
            )
            price = f"{Decimal(row['monthly_price_usd']):.2f} USD"
            console.print(f"{row['name']:<12} {price:>12}  {quotas}", markup=False)

    _act(show)


def check_ledger(
    repair: Annotated[bool, typer.Option(help="Rebuild the quotas that differ.")] = False,
) -> None:
    """Compare every tenant's quotas with the ledger; exit status 1 where differences are left."""

    async def compare(desk: _Desk) -> int:
        found = await desk.administration.differences()
        for each in found:
            where = f"{each.tenant_id} {each.period:%Y-%m} {each.quantity}"
            console.print(f"{where}: {each.kept} instead of {each.rebuilt}", markup=False)
        if repair:
            for tenant_id, period in {(each.tenant_id, each.period) for each in found}:
                await desk.administration.rebuild(tenant_id, period)
            console.print(f"{len(found)} differences rebuilt")
            found = await desk.administration.differences()
        console.print(f"{len(found)} differences")
        return len(found)

    if _act(compare):
        raise typer.Exit(1)


def _act(act: Callable[[_Desk], Awaitable[Result]]) -> Result:
    try:
        return asyncio.run(_at_desk(running(), act))
    except PlatformError as error:
        errors.print(error.detail, markup=False)
        raise typer.Exit(1) from error


async def _at_desk(installation: Installation, act: Callable[[_Desk], Awaitable[Result]]) -> Result:
    database = Database(installation.database_url("polyplane_gateway"), service="cli")
    redis = open_redis(installation)
    rules = TokenRules()
    lifetime_s = rules.lifetime_s + rules.leeway_s
    gate = SessionGate(RedisScripts(redis), token_lifetime_s=lifetime_s)
    await database.open()
    try:
        return await act(_Desk(BillingAdministration(database), PlanChanges(database, gate)))
    finally:
        await redis.aclose()
        await database.close()
