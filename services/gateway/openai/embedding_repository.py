"""Reservations of embeddings in SQL; the functions stand in the migrations."""

from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from uuid import UUID

from planes.shared.domain import TenantContext, new_id
from planes.shared.errors import NotFound, QuotaExceeded
from planes.shared.stores.postgres import Connection, warnings_logged

_LIFETIME = timedelta(seconds=90)  # longer than the serving plane may take


@dataclass(frozen=True, slots=True)
class EmbeddingIntent:
    """A request that is about to be paid for."""

    request_id: UUID
    model: str
    max_tokens: int


async def reserve(connection: Connection, context: TenantContext, intent: EmbeddingIntent) -> None:
    """Reserve the most that a request may come to.

    Raises:
        QuotaExceeded: The quota of tokens does not cover it.
        NotFound: The tenant was deleted just now.
    """
    status = await connection.fetchval(
        "SELECT reserve_embedding($1, $2, $3, $4, $5, $6)",
        context.tenant_id,
        context.user_id,
        intent.request_id,
        intent.model,
        intent.max_tokens,
        _LIFETIME,
    )
    if status == "tokens":
        raise QuotaExceeded(
            "The plan's quota of tokens does not cover these texts.",
            extensions={"quota": "tokens"},
        )
    if status != "reserved":
        raise NotFound("The tenant was deleted.")


async def settle(
    connection: Connection, context: TenantContext, request_id: UUID, tokens: int
) -> Decimal | None:
    """Turn a reservation into its ledger row; None when it was swept."""
    cost: Decimal | None = await connection.fetchval(
        "SELECT settle_embedding($1, $2, $3, $4)", context.tenant_id, request_id, new_id(), tokens
    )
    return cost


async def release(connection: Connection, context: TenantContext, request_id: UUID) -> None:
    """Give a reservation back, if it is there still."""
    await connection.execute("SELECT release_embedding($1, $2)", context.tenant_id, request_id)


async def sweep(connection: Connection) -> int:
    """Give back one reservation that nobody carries on; returns how many.

    One that its tenant's books do not let end is put off for ten minutes and logged as an error.
    """
    with warnings_logged(connection):
        count: int = await connection.fetchval("SELECT sweep_embeddings(1)")
    return count
