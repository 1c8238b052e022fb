"""Who belongs to a tenant, and in which role."""

from uuid import UUID

from planes.shared.domain import Role
from planes.shared.errors import Conflict, Forbidden, Unauthenticated
from planes.shared.stores.postgres import Connection, Database
from services.gateway.audit import Action, AuditEvent, record
from services.gateway.auth.models import Account
from services.gateway.auth.sessions import Sessions
from services.gateway.tenants import member_repository as repository
from services.gateway.tenants.models import Ended, Member


class MemberService:
    """Changes of one tenant's members happen one after another, so that an owner always remains."""

    def __init__(self, database: Database, sessions: Sessions) -> None:
        """Store the parts."""
        self._database = database
        self._sessions = sessions

    async def page(self, account: Account, *, before: UUID | None, limit: int) -> list[Member]:
        """Return a part of the members, the newest account first."""
        tenant_id = account.context.tenant_id
        async with self._database.tenant(tenant_id) as connection:
            return await repository.page(connection, tenant_id, before=before, limit=limit)

    async def change_role(self, account: Account, user_id: UUID, role: Role) -> Member:
        """Give a member another role; tokens that say the old one end at once, in this tenant.

        Raises:
            NotFound: There is no such member.
            Forbidden: The caller's rank is not above the change.
            Conflict: Nobody else is an owner.
        """
        tenant_id = account.context.tenant_id
        async with self._database.tenant(tenant_id) as connection:
            await repository.lock(connection, tenant_id)
            member = await repository.find(connection, tenant_id, user_id)
            _check_rank(await rank_role(connection, account), member.role, role)
            if member.role is role:
                return member
            await _keep_an_owner(connection, tenant_id, member)
            ended = await repository.set_role(connection, tenant_id, user_id, role)
            await record(
                connection,
                AuditEvent(
                    tenant_id,
                    Action.MEMBER_CHANGED,
                    account,
                    subject=f"user:{user_id}",
                    details={"from": member.role, "to": role},
                ),
            )
            changed = await repository.find(connection, tenant_id, user_id)
        await tell(self._sessions, ended)
        return changed

    async def remove(self, account: Account, user_id: UUID) -> None:
        """Take a member out of the tenant, or let the caller leave it.

        Raises:
            NotFound: There is no such member.
            Forbidden: The caller is neither that member nor of sufficient rank; for a key, whose
                holder is unknown, being its maker's does not count.
            Conflict: Nobody else is an owner.
        """
        tenant_id = account.context.tenant_id
        async with self._database.tenant(tenant_id) as connection:
            await repository.lock(connection, tenant_id)
            member = await repository.find(connection, tenant_id, user_id)
            is_leaving = user_id == account.context.user_id and not account.is_api_key
            if not is_leaving:
                _check_rank(await rank_role(connection, account), member.role, Role.VIEWER)
            await _keep_an_owner(connection, tenant_id, member)
            ended = await repository.remove(connection, tenant_id, user_id)
            details = {"role": member.role, "left": is_leaving}
            event = AuditEvent(
                tenant_id,
                Action.MEMBER_REMOVED,
                account,
                subject=f"user:{user_id}",
                details=details,
            )
            await record(connection, event)
        await tell(self._sessions, ended)


async def rank_role(connection: Connection, account: Account) -> Role:
    """Return the caller's role as it is now, inside the transaction that depends on it.

    An API key acts as an admin at most: what only owners do is for people, and whoever holds a key
    must not make an owner of themselves.

    Raises:
        Unauthenticated: The caller is a member no more.
    """
    role = await repository.role_of(connection, account.context.tenant_id, account.context.user_id)
    if role is None:
        raise Unauthenticated("You are no longer a member of this tenant.")
    highest = Role.ADMIN if account.is_api_key else Role.OWNER
    return min(role, account.role, highest, key=lambda each: each.rank)


async def tell(sessions: Sessions, ended: Ended) -> None:
    """Make every gateway process know what a transaction has ended."""
    await sessions.revoked(
        ended.user_id, ended.session_ids, version=ended.version, tenant_id=ended.tenant_id
    )


def _check_rank(mine: Role, theirs: Role, wanted: Role) -> None:
    if mine.rank < Role.ADMIN.rank:
        raise Forbidden("Only owners and admins change members.")
    if Role.OWNER in (theirs, wanted) and mine is not Role.OWNER:
        raise Forbidden("Only an owner makes, changes or removes owners.")


async def _keep_an_owner(connection: Connection, tenant_id: UUID, member: Member) -> None:
    if member.role is not Role.OWNER:
        return
    if await repository.count(connection, tenant_id, Role.OWNER) == 1:
        raise Conflict(
            "A tenant needs an owner: make another member owner first, or delete the tenant."
        )
