"""How long the messages of a tenant are kept, by its plan."""

from collections.abc import Mapping
from datetime import timedelta
from uuid import UUID

from planes.shared.stores.postgres import Database

EVERY_PLAN = "*"


class Retention:
    """Days by plan, as the operator set them; `*` stands for every plan that is not named."""

    def __init__(self, database: Database, days_by_plan: Mapping[str, int]) -> None:
        """Store where plans stand, and the days."""
        self._database = database
        self._days = dict(days_by_plan)

    async def keeps_for(self, tenant_id: UUID) -> timedelta | None:
        """Return how long this tenant's messages are kept; None: for good.

        Raises:
            Unavailable: The database does not answer.
        """
        plan = EVERY_PLAN
        if self._days.keys() - {EVERY_PLAN}:
            async with self._database.tenant(tenant_id) as connection:
                plan = await connection.fetchval(
                    "SELECT plan FROM tenants WHERE id = $1", tenant_id
                )
        days = self._days.get(plan, self._days.get(EVERY_PLAN))
        return None if days is None else timedelta(days=days)
