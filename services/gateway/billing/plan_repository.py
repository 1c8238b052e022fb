"""Plans, their changes and their charges in SQL; the functions stand in the migrations."""

from dataclasses import dataclass
from decimal import Decimal
from uuid import UUID

import asyncpg

from planes.shared.domain import new_id
from planes.shared.errors import InvalidInput, NotFound
from planes.shared.stores.postgres import Connection


@dataclass(frozen=True, slots=True)
class PlanChange:
    """A plan that a tenant is to have, and who says so.

    Attributes:
        tenant_id: Whose plan.
        plan: Its name.
        actor_kind: "user", "operator" or "payment-provider".
        actor_id: The user, if it was one.
    """

    tenant_id: UUID
    plan: str
    actor_kind: str
    actor_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class ChangedPlan:
    """What a plan change did; `charged_usd` is the part of this month's price that it added."""

    from_plan: str
    to_plan: str
    charged_usd: Decimal

    @property
    def is_change(self) -> bool:
        """Whether the plan was another one before."""
        return self.from_plan != self.to_plan


async def change_plan(connection: Connection, change: PlanChange) -> ChangedPlan:
    """Move a tenant to a plan, with its history and its charge; the same plan changes nothing.

    Raises:
        InvalidInput: There is no such plan; it names those that there are.
        NotFound: There is no such tenant.
    """
    names = [row["name"] for row in await plan_names(connection)]
    if change.plan not in names:
        raise InvalidInput(f"There is no plan {change.plan!r}; there are {', '.join(names)}.")
    row = await connection.fetchrow(
        "SELECT * FROM change_plan($1, $2, $3, $4, $5)",
        change.tenant_id,
        change.plan,
        new_id(),
        change.actor_kind,
        change.actor_id,
    )
    if row is None:
        raise NotFound("There is no such tenant.")
    return ChangedPlan(row["from_plan"], change.plan, row["charged_usd"])


async def plan_names(connection: Connection) -> list[asyncpg.Record]:
    """Return every plan's name, cheapest first."""
    return await connection.fetch("SELECT name FROM plans ORDER BY position")


async def live_sessions(connection: Connection, tenant_id: UUID) -> list[asyncpg.Record]:
    """Return (user_id, ids) of the sessions and the API keys that act in a tenant."""
    return await connection.fetch("SELECT * FROM tenant_sessions($1)", tenant_id)


async def charge_subscriptions(connection: Connection, limit: int) -> int:
    """Charge this month of paid plans that were not charged yet, of up to `limit` tenants.

    Returns how many were charged; 0: none is left, or others charge the same ones.
    """
    charged: int = await connection.fetchval("SELECT charge_subscriptions($1)", limit)
    return charged
