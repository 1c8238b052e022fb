"""Webhooks and their deliveries in SQL. The database itself adds deliveries, with their events."""

from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

import asyncpg

from planes.shared.domain import TenantContext
from planes.shared.errors import Conflict, NotFound
from planes.shared.stores.postgres import Connection, Database

_WEBHOOK = """
SELECT h.id, h.url, h.events, h.failures, h.paused_at, h.last_attempt_at, h.last_status,
       h.last_error, h.created_at, (
    SELECT count(*) FROM webhook_deliveries d WHERE d.webhook_id = h.id AND d.state = 'waiting'
) AS waiting
FROM webhooks h WHERE h.tenant_id = $1
"""
_DELIVERED = """
WITH ended AS (
    UPDATE webhook_deliveries SET state = 'delivered', ended_at = now(), lease_until = NULL
    WHERE tenant_id = $1 AND id = $3 AND state = 'waiting'
)
UPDATE webhooks SET failures = 0, failing_since = NULL, paused_at = NULL, retry_at = now(),
       last_attempt_at = now(), last_status = $4, last_error = NULL
WHERE tenant_id = $1 AND id = $2
"""
_FAILED = """
UPDATE webhooks SET failures = greatest(failures, $5 + 1),
       failing_since = coalesce(failing_since, now()), retry_at = now() + $6::interval,
       last_attempt_at = now(), last_status = $3, last_error = $4,
       paused_at = CASE WHEN $7 OR failing_since < now() - $8::interval
                        THEN coalesce(paused_at, now()) ELSE paused_at END
WHERE tenant_id = $1 AND id = $2 RETURNING paused_at
"""
_POSTPONED = """
UPDATE webhook_deliveries SET lease_until = NULL, due_at = now() + $4::interval,
       state = CASE WHEN $5 OR created_at < now() - $6::interval
                    THEN 'given-up' ELSE 'waiting' END,
       ended_at = CASE WHEN $5 OR created_at < now() - $6::interval THEN now() END
WHERE tenant_id = $1 AND webhook_id = $2 AND state = 'waiting' AND ($5 OR id = $3)
"""


@dataclass(frozen=True, slots=True)
class NewRow:
    """A webhook to be inserted."""

    id: UUID
    url: str
    events: list[str]
    sealed_secret: bytes


@dataclass(frozen=True, slots=True)
class Delivery:
    """An event that this process sends now; `failures` are its webhook's in a row before."""

    id: UUID
    tenant_id: UUID
    webhook_id: UUID
    event: str
    body: str
    attempts: int
    url: str
    sealed_secret: bytes
    failures: int


@dataclass(frozen=True, slots=True)
class Failure:
    """An attempt that failed.

    Attributes:
        status: Of HTTP; None: there was no answer.
        reason: For the webhook's owner; nothing that the receiver said.
        pause: Until the next attempt.
        is_final: The receiver wants nothing more.
    """

    status: int | None
    reason: str
    pause: timedelta
    is_final: bool = False


@dataclass(frozen=True, slots=True)
class Patience:
    """How long deliveries that fail are repeated, and webhooks that fail are kept up."""

    give_up_after: timedelta
    pause_after: timedelta


async def insert(
    connection: Connection, context: TenantContext, new: NewRow, most: int
) -> asyncpg.Record:
    """Insert a webhook and return it.

    Raises:
        Conflict: The tenant has as many as it may have.
    """
    await connection.execute(
        "SELECT pg_advisory_xact_lock(hashtextextended('webhooks ' || $1::text, 0))",
        str(context.tenant_id),
    )
    count = await connection.fetchval(
        "SELECT count(*) FROM webhooks WHERE tenant_id = $1", context.tenant_id
    )
    if count >= most:
        raise Conflict(f"A tenant has at most {most} webhooks. Delete one first.")
    await connection.execute(
        "INSERT INTO webhooks (id, tenant_id, created_by, url, events, sealed_secret) "
        "VALUES ($1, $2, $3, $4, $5, $6)",
        new.id,
        context.tenant_id,
        context.user_id,
        new.url,
        new.events,
        new.sealed_secret,
    )
    return await find(connection, context, new.id)


async def find(connection: Connection, context: TenantContext, webhook_id: UUID) -> asyncpg.Record:
    """Return a webhook.

    Raises:
        NotFound: There is none of that id in this tenant.
    """
    row = await connection.fetchrow(_WEBHOOK + " AND h.id = $2", context.tenant_id, webhook_id)
    if row is None:
        raise NotFound("There is no such webhook.")
    return row


async def page(
    connection: Connection, context: TenantContext, before: UUID | None, limit: int
) -> list[asyncpg.Record]:
    """Return the tenant's webhooks, newest first."""
    return await connection.fetch(
        _WEBHOOK + " AND ($2::uuid IS NULL OR h.id < $2) ORDER BY h.id DESC LIMIT $3",
        context.tenant_id,
        before,
        limit,
    )


async def delete(connection: Connection, context: TenantContext, webhook_id: UUID) -> bool:
    """Delete a webhook and what waits for it; False if there is none."""
    result = await connection.execute(
        "DELETE FROM webhooks WHERE tenant_id = $1 AND id = $2", context.tenant_id, webhook_id
    )
    return result.endswith("1")


async def insert_delivery(
    connection: Connection, context: TenantContext, webhook_id: UUID, delivery: tuple[UUID, str]
) -> None:
    """Insert a `ping` of (id, body), to be tried at once."""
    await connection.execute(
        "INSERT INTO webhook_deliveries (id, tenant_id, webhook_id, event, body) "
        "VALUES ($3, $1, $2, 'ping', $4)",
        context.tenant_id,
        webhook_id,
        *delivery,
    )
    await connection.execute(
        "UPDATE webhooks SET retry_at = now() WHERE tenant_id = $1 AND id = $2",
        context.tenant_id,
        webhook_id,
    )


async def claim(database: Database, most: int, lease: timedelta) -> list[Delivery]:
    """Lease what is due, of all tenants; after a crash it is due again when the lease runs out."""
    async with database.platform() as connection:
        rows = await connection.fetch("SELECT * FROM claim_deliveries($1, $2)", most, lease)
    return [Delivery(**row) for row in rows]


async def note_delivered(connection: Connection, delivery: Delivery, status: int) -> None:
    """Note a success; a webhook that was paused is told events again."""
    ids = (delivery.tenant_id, delivery.webhook_id, delivery.id)
    await connection.execute(_DELIVERED, *ids, status)


async def note_failed(
    connection: Connection, delivery: Delivery, failure: Failure, patience: Patience
) -> bool:
    """Note a failure; True where the webhook is paused now, and what waited is given up."""
    paused_at = await connection.fetchval(
        _FAILED,
        delivery.tenant_id,
        delivery.webhook_id,
        failure.status,
        failure.reason,
        delivery.failures,
        failure.pause,
        failure.is_final,
        patience.pause_after,
    )
    await connection.execute(
        _POSTPONED,
        delivery.tenant_id,
        delivery.webhook_id,
        delivery.id,
        failure.pause,
        paused_at is not None,
        patience.give_up_after,
    )
    return paused_at is not None


async def prune(database: Database, give_up_after: timedelta, keep: timedelta) -> int:
    """Give up what has waited too long and forget what ended long ago; returns the former."""
    async with database.platform() as connection:
        count: int = await connection.fetchval(
            "SELECT prune_deliveries($1, $2)", give_up_after, keep
        )
    return count
