"""The quotas of documents and storage, counted in the transaction that adds documents."""

from collections.abc import Sequence

from planes.shared.domain import TenantContext
from planes.shared.errors import NotFound, QuotaExceeded
from planes.shared.stores.postgres import Connection


async def take(
    connection: Connection, context: TenantContext, sizes: Sequence[int], *, documents_each: int = 1
) -> list[QuotaExceeded | None]:
    """Count what is added, as far as the plan allows, and say of each whether it fits.

    The tenant's row stays locked until the transaction ends, so that the quota holds exactly,
    whatever is uploaded at the same time.

    Args:
        connection: In the tenant's transaction.
        context: Whose quota.
        sizes: Bytes of each file, in the order in which they have a claim.
        documents_each: How many documents each adds; 0 for another version of one.

    Raises:
        NotFound: The tenant was deleted meanwhile.
    """
    used = await connection.fetchrow(
        "SELECT plan, documents_used, storage_bytes_used FROM tenants "
        "WHERE id = $1 AND deleted_at IS NULL FOR UPDATE",
        context.tenant_id,
    )
    if used is None:
        raise NotFound("There is no such tenant.")
    plan = await connection.fetchrow(  # after the lock: a change of plan may have been waited for
        "SELECT documents, storage_bytes FROM plans WHERE name = $1", used["plan"]
    )
    assert plan is not None  # noqa: S101 (a foreign key)
    counter = _Counter(
        (used["documents_used"], used["storage_bytes_used"]),
        (plan["documents"], plan["storage_bytes"]),
    )
    outcomes = [counter.add(documents_each, size) for size in sizes]
    await connection.execute(
        "UPDATE tenants SET documents_used = $2, storage_bytes_used = $3 WHERE id = $1",
        context.tenant_id,
        *counter.used,
    )
    return outcomes


class _Counter:
    """What is used of (documents, bytes), and the limits; None is no limit."""

    def __init__(self, used: tuple[int, int], limits: tuple[int | None, int | None]) -> None:
        self.used = used
        self._limits = limits

    def add(self, documents: int, size_bytes: int) -> QuotaExceeded | None:
        wanted = (self.used[0] + documents, self.used[1] + size_bytes)
        for quota, had, has, limit in zip(
            ("documents", "storage_bytes"), self.used, wanted, self._limits, strict=True
        ):
            if limit is not None and has > max(limit, had):
                return _exceeded(quota)
        self.used = wanted
        return None


def _exceeded(quota: str) -> QuotaExceeded:
    return QuotaExceeded(
        "The plan's quota of documents or storage is used up. Delete documents or change the plan.",
        extensions={"quota": quota},
    )
