"""Deleting one's own account."""

from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

from planes.shared.domain import Role, TenantContext
from planes.shared.errors import Conflict, Forbidden
from planes.shared.stores.postgres import Connection, Database, enter_tenant
from services.gateway.audit import Action, AuditEvent, record
from services.gateway.auth import account_repository as repository
from services.gateway.auth.models import Account, email_key
from services.gateway.auth.service import AuthService, Client
from services.gateway.auth.sessions import Sessions
from services.gateway.tenants import deletion
from services.gateway.tenants import member_repository as members
from services.gateway.tenants.models import Ended, TenantDeletion


@dataclass(frozen=True, slots=True)
class Proof:
    """What shows that the caller means it: the password, or without one the own address."""

    password: str | None
    confirm_email: str | None


class AccountDeletion:
    """Ends accounts, and with them the tenants that nobody else belongs to."""

    def __init__(
        self,
        database: Database,
        auth: AuthService,
        sessions: Sessions,
        new_id: Callable[[], UUID],
    ) -> None:
        """Store the parts."""
        self._database = database
        self._auth = auth
        self._sessions = sessions
        self._new_id = new_id

    async def delete(self, account: Account, proof: Proof, client: Client) -> list[TenantDeletion]:
        """End the caller's account: nothing of the person is left but an id.

        Returns:
            The tenants that are removed with it.

        Raises:
            Forbidden: The password or the address is wrong.
            TooManyRequests: Too many wrong passwords before.
            Conflict: Others depend on the caller as the last owner of a tenant.
        """
        await self._check(account, proof, client)
        user_id = account.context.user_id
        async with self._database.tenant(account.context.tenant_id, user_id) as connection:
            alone, shared = await _lock_tenants(connection, user_id)
            deletions, lost = [], []
            for tenant_id in alone:
                closed, ended = await self._close(connection, tenant_id, user_id)
                deletions.append(closed)
                lost += ended
            for tenant_id in shared:
                await enter_tenant(connection, tenant_id)
                await repository.forget_requests(connection, tenant_id, user_id)
                await _note(connection, tenant_id, user_id)
                lost.append(await members.remove(connection, tenant_id, user_id))
            lost.append(await repository.anonymise(connection, user_id))
        await deletion.tell_all(self._sessions, _joined(lost))
        return deletions

    async def _check(self, account: Account, proof: Proof, client: Client) -> None:
        profile = await self._auth.profile(account)
        if await self._auth.has_password(account):
            await self._auth.check_password(account, proof.password or "", client)
        elif email_key(proof.confirm_email or "") != email_key(profile.email):
            raise Forbidden("Your account has no password: send your address as `confirm_email`.")

    async def _close(
        self, connection: Connection, tenant_id: UUID, user_id: UUID
    ) -> tuple[TenantDeletion, list[Ended]]:
        await enter_tenant(connection, tenant_id)
        await _note(connection, tenant_id, user_id)
        context = TenantContext(tenant_id=tenant_id, user_id=user_id)
        return await deletion.close(connection, context, user_id, self._new_id())


async def _lock_tenants(connection: Connection, user_id: UUID) -> tuple[list[UUID], list[UUID]]:
    """Lock all tenants of a user, and return those without other members, and the others.

    Raises:
        Conflict: Others depend on the user as the last owner, or a tenant was joined just now.
    """
    found = await repository.memberships(connection, user_id)
    alone, shared, needed = [], [], []
    for tenant_id in found:
        await enter_tenant(connection, tenant_id)
        await members.lock(connection, tenant_id)
        role = await members.role_of(connection, tenant_id, user_id)
        owners = await members.count(connection, tenant_id, Role.OWNER)
        if await members.count(connection, tenant_id) == 1:
            alone.append(tenant_id)
        elif role is Role.OWNER and owners == 1:
            needed.append(tenant_id)
        else:
            shared.append(tenant_id)
    if needed:
        raise Conflict(
            "You are the last owner of a tenant with other members: make one of them owner, or"
            " delete the tenant, then your account.",
            extensions={"tenants": [str(tenant_id) for tenant_id in needed]},
        )
    await repository.lock(connection, user_id)
    if await repository.memberships(connection, user_id) != found:
        raise Conflict("Your memberships have changed just now. Try again.", retry_after_s=1)
    return alone, shared


async def _note(connection: Connection, tenant_id: UUID, user_id: UUID) -> None:
    event = AuditEvent(tenant_id, Action.USER_DELETED, user_id, subject=f"user:{user_id}")
    await record(connection, event)


def _joined(lost: list[Ended]) -> list[Ended]:
    """Return one entry for what each version is of, with the highest of them."""
    by_scope: dict[tuple[UUID, UUID | None], Ended] = {}
    for each in lost:
        scope = (each.user_id, each.tenant_id)
        known = by_scope.get(scope, Ended(each.user_id, ()))
        ids = {*known.session_ids, *each.session_ids}
        version = max(known.version, each.version)
        by_scope[scope] = Ended(each.user_id, tuple(ids), version, each.tenant_id)
    return list(by_scope.values())
