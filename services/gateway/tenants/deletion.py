"""Ending a tenant: at once for its people, then store by store, with a receipt."""

import asyncio
import hashlib
import secrets
from collections.abc import Callable, Sequence
from uuid import UUID

import asyncpg
import structlog

from planes.shared.domain import Role, TenantContext
from planes.shared.errors import Forbidden, InvalidInput, NotFound
from planes.shared.stores.postgres import Connection, Database
from services.gateway.audit import Action, AuditEvent, record
from services.gateway.auth.models import Account
from services.gateway.auth.sessions import Sessions
from services.gateway.tenants import deletion_repository as repository
from services.gateway.tenants import member_repository as members
from services.gateway.tenants import repository as tenants
from services.gateway.tenants.members import rank_role, tell
from services.gateway.tenants.models import Ended, TenantDeletion
from services.gateway.tenants.schemas import RemovedOut, TenantReceipt

_TOLD_AT_ONCE = 50
_log = structlog.get_logger(__name__)


class TenantDeletionService:
    """Closes tenants and shows how far their removal has come."""

    def __init__(self, database: Database, sessions: Sessions, new_id: Callable[[], UUID]) -> None:
        """Store the parts."""
        self._database = database
        self._sessions = sessions
        self._new_id = new_id

    async def delete(self, account: Account, *, confirm_name: str | None = None) -> TenantDeletion:
        """Close the caller's tenant: nobody acts in it from now on, open answers end.

        Raises:
            Forbidden: The caller is an owner no more.
            InvalidInput: The tenant has another name than the caller believes.
            NotFound: Somebody else was faster.
        """
        context = account.context
        async with self._database.tenant(context.tenant_id) as connection:
            await members.lock(connection, context.tenant_id)
            if await rank_role(connection, account) is not Role.OWNER:
                raise Forbidden("Only an owner deletes the tenant.")
            if confirm_name is not None:
                await _check_name(connection, context.tenant_id, confirm_name)
            deletion, lost = await close(connection, context, account, self._new_id())
        _log.info("tenant deleted", tenant_id=str(context.tenant_id))
        await tell_all(self._sessions, lost)
        return deletion

    async def receipt(self, receipt: str) -> TenantReceipt:
        """Return how far the removal of a tenant has come.

        Raises:
            NotFound: There is no such receipt.
        """
        async with self._database.platform() as connection:
            row = await repository.receipt(connection, _hash(receipt))
        if row is None:
            raise NotFound("There is no such receipt.")
        return _receipt(row)


async def close(
    connection: Connection,
    context: TenantContext,
    actor: Account | UUID,
    receipt_id: UUID,
) -> tuple[TenantDeletion, list[Ended]]:
    """Close a locked tenant inside a transaction that sees it.

    Returns:
        The deletion, and what its members lost: tell it once the transaction has committed.
    """
    receipt = secrets.token_urlsafe(32)
    event = AuditEvent(
        context.tenant_id,
        Action.TENANT_DELETED,
        actor,
        subject=f"tenant:{context.tenant_id}",
        details={"receipt": str(receipt_id)},
    )
    await record(connection, event)
    lost, removed = await repository.tombstone(connection, context.tenant_id)
    await repository.insert(connection, context, (receipt_id, _hash(receipt)), removed)
    return TenantDeletion(context.tenant_id, receipt_id, receipt), lost


async def tell_all(sessions: Sessions, lost: Sequence[Ended]) -> None:
    """Make every gateway process know what many people have lost."""
    for start in range(0, len(lost), _TOLD_AT_ONCE):
        some = lost[start : start + _TOLD_AT_ONCE]
        await asyncio.gather(*(tell(sessions, ended) for ended in some))


async def _check_name(connection: Connection, tenant_id: UUID, given: str) -> None:
    tenant = await tenants.find(connection, tenant_id)
    if tenant is None or given.strip() != tenant.name:
        detail = "not the name of the tenant that this session acts in: nothing was deleted"
        fields = [{"pointer": "/body/confirm_name", "detail": detail}]
        raise InvalidInput(f"`confirm_name` is {detail}.", extensions={"errors": fields})


def _receipt(row: asyncpg.Record) -> TenantReceipt:
    counts = {name: row[name] for name in RemovedOut.model_fields if name != "postgresql"}
    return TenantReceipt(
        receipt_id=row["id"],
        tenant_id=row["tenant_id"],
        status="deleting" if row["completed_at"] is None else "complete",
        requested_at=row["requested_at"],
        completed_at=row["completed_at"],
        removed=RemovedOut(postgresql=row["removed_rows"], **counts),
    )


def _hash(receipt: str) -> bytes:
    return hashlib.sha256(receipt.encode()).digest()
