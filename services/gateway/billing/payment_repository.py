"""Subscriptions and payment events in SQL."""

from dataclasses import astuple, dataclass
from datetime import datetime
from uuid import UUID

import asyncpg

from planes.shared.stores.postgres import Connection
from services.gateway.billing.payments import PaymentEvent


@dataclass(frozen=True, slots=True)
class Subscription:
    """A row of `subscriptions`, its columns in order.

    Attributes:
        id: The payment provider's.
        tenant_id: Whose.
        customer_id: Who pays, as the provider knows them.
        plan: What is paid for.
        price_id: The provider's, of the plan; None until it was told.
        is_active: Whether it entitles to the plan now.
        ended: It never will again.
        told_at: When the provider made the event that said so.
    """

    id: str
    tenant_id: UUID
    customer_id: str
    plan: str
    price_id: str | None
    is_active: bool
    ended: bool
    told_at: datetime


async def tenant_exists(connection: Connection, tenant_id: UUID) -> bool:
    """Return whether a tenant is there and not deleted; `connection` must see it."""
    query = "SELECT EXISTS (SELECT FROM tenants WHERE id = $1 AND deleted_at IS NULL)"
    return bool(await connection.fetchval(query, tenant_id))


async def tenant_of_subscription(connection: Connection, subscription_id: str) -> UUID | None:
    """Return whose subscription it is."""
    found: UUID | None = await connection.fetchval(
        "SELECT tenant_of_subscription($1)", subscription_id
    )
    return found


async def insert_event(
    connection: Connection, event: PaymentEvent, tenant_id: UUID | None, effect: str
) -> bool:
    """Note an event; False when it was noted before. Waits for another who notes it just now."""
    result = await connection.execute(
        "INSERT INTO payment_events (id, tenant_id, kind, effect, created_at) "
        "VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING",
        event.id,
        tenant_id,
        event.name,
        effect,
        event.created_at,
    )
    return result.endswith("1")


async def take_turn(connection: Connection, tenant_id: UUID) -> None:
    """Let one transaction at a time judge a tenant's payments."""
    await connection.execute(
        "SELECT pg_advisory_xact_lock(hashtextextended('payments:' || $1::text, 0))",
        str(tenant_id),
    )


async def find_subscription(
    connection: Connection, subscription_id: str | None
) -> asyncpg.Record | None:
    """Return a subscription of the tenant that `connection` sees."""
    return await connection.fetchrow("SELECT * FROM subscriptions WHERE id = $1", subscription_id)


async def save_subscription(connection: Connection, subscription: Subscription) -> None:
    """Keep what the newest event says of a subscription."""
    await connection.execute(
        "INSERT INTO subscriptions "
        "(id, tenant_id, customer_id, plan, price_id, is_active, ended, told_at) "
        "VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (id) DO UPDATE SET "
        "plan = excluded.plan, price_id = excluded.price_id, is_active = excluded.is_active, "
        "ended = excluded.ended, told_at = excluded.told_at",
        *astuple(subscription),
    )


async def subscribed_plan(connection: Connection, tenant_id: UUID) -> str | None:
    """Return the highest plan among a tenant's active subscriptions."""
    plan: str | None = await connection.fetchval(
        "SELECT p.name FROM subscriptions s JOIN plans p ON p.name = s.plan "
        "WHERE s.tenant_id = $1 AND s.is_active ORDER BY p.position DESC LIMIT 1",
        tenant_id,
    )
    return plan


async def standing(connection: Connection, tenant_id: UUID) -> asyncpg.Record:
    """Return a tenant's plan, its newest plan change, and the customer who pays for it."""
    row = await connection.fetchrow(
        "SELECT t.plan, (SELECT c.id FROM plan_changes c WHERE c.tenant_id = t.id "
        "ORDER BY c.changed_at DESC LIMIT 1) AS newest_change, "
        "(SELECT s.customer_id FROM subscriptions s WHERE s.tenant_id = t.id AND s.is_active "
        "ORDER BY s.told_at DESC LIMIT 1) AS customer_id FROM tenants t WHERE t.id = $1",
        tenant_id,
    )
    assert row is not None  # noqa: S101 (the caller knows that the tenant is there)
    return row
