"""What an operator does with plans and books, beside any gateway."""

from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from uuid import UUID

import asyncpg

from planes.shared.errors import InvalidInput, NotFound
from planes.shared.stores.postgres import Database
from services.gateway.auth.models import email_key
from services.gateway.billing import repository


@dataclass(frozen=True, slots=True)
class Difference:
    """A quantity of a tenant's month that the quota row and the ledger tell differently."""

    tenant_id: UUID
    period: date
    quantity: str
    kept: Decimal
    rebuilt: Decimal


class BillingAdministration:
    """Reads across tenants, and mends what differs from the ledger."""

    def __init__(self, database: Database) -> None:
        """Store the database."""
        self._database = database

    async def tenant_owned_by(self, email: str) -> UUID:
        """Return the one tenant that somebody owns.

        Raises:
            NotFound: Nobody has the address, or owns a tenant.
            InvalidInput: There are several; it names them.
        """
        async with self._database.platform() as connection:
            user_id = await connection.fetchval(
                "SELECT id FROM users WHERE email_key = $1", email_key(email)
            )
        async with self._database.tenant(None, user_id) as connection:
            rows = await connection.fetch(
                "SELECT m.tenant_id FROM memberships m JOIN tenants t ON t.id = m.tenant_id "
                "WHERE m.user_id = $1 AND m.role = 'owner' AND t.deleted_at IS NULL",
                user_id,
            )
        owned: list[UUID] = [row["tenant_id"] for row in rows]
        if not owned:
            raise NotFound(f"{email} owns no tenant.")
        if len(owned) > 1:
            names = ", ".join(map(str, owned))
            raise InvalidInput(f"{email} owns several tenants; choose one by --tenant: {names}.")
        return owned[0]

    async def plans(self) -> list[asyncpg.Record]:
        """Return the tiers, cheapest first."""
        async with self._database.platform() as connection:
            return await repository.plans(connection)

    async def differences(self) -> list[Difference]:
        """Return where quota rows differ from the ledger; of all tenants, at one moment."""
        async with self._database.platform() as connection:
            rows = await connection.fetch("SELECT * FROM ledger_differences()")
        return [Difference(**row) for row in rows]

    async def rebuild(self, tenant_id: UUID, period: date) -> None:
        """Write a quota row anew from the ledger and the answers under way."""
        async with self._database.platform() as connection:
            await connection.execute("SELECT rebuild_quota($1, $2)", tenant_id, period)
