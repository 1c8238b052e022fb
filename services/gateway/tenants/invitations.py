"""Asking people into a tenant. A token is 256 bits, stored as its SHA-256, good for seven days."""

import hashlib
import secrets
from collections.abc import Callable
from datetime import timedelta
from uuid import UUID

from planes.shared.domain import Role
from planes.shared.errors import Conflict, Forbidden, NotFound, TooManyRequests
from planes.shared.stores.postgres import Connection, Database, enter_tenant
from services.gateway.audit import Action, AuditEvent, record
from services.gateway.auth.models import Account, email_key
from services.gateway.auth.recovery import MailThrottle
from services.gateway.billing.features import Feature, require_feature
from services.gateway.idempotency.service import Effect
from services.gateway.mail.letters import LetterWriter
from services.gateway.mail.outbox import MailKind, Occasion, post
from services.gateway.mail.smtp import Letter
from services.gateway.tenants import invitation_repository as repository
from services.gateway.tenants import member_repository as members
from services.gateway.tenants import repository as tenants
from services.gateway.tenants.members import rank_role
from services.gateway.tenants.models import Invitation, NewInvitation
from services.gateway.tenants.schemas import AcceptedOut, JoinedTenant, NewInvitationOut

_LIFETIME = timedelta(days=7)
_MAX_A_DAY = 200  # so that nobody sends mail to the world through us


class InvitationService:
    """Makes, lists, withdraws and accepts invitations."""

    def __init__(
        self,
        database: Database,
        new_id: Callable[[], UUID],
        mail_throttle: MailThrottle | None = None,
    ) -> None:
        """Store the parts; with a throttle tokens go to the invited address, not to who invites."""
        self._database = database
        self._new_id = new_id
        self._mail_throttle = mail_throttle

    async def invite(
        self, account: Account, email: str, role: Role, effect: Effect
    ) -> NewInvitationOut:
        """Invite somebody, in place of an earlier invitation of the same address.

        What is kept for a repeat of the request holds no token.

        Raises:
            Forbidden: The role is above the caller's own, or the plan has no invitations.
            Conflict: The person is a member.
            TooManyRequests: The tenant has invited too many people in the last 24 hours, or the
                address gets too many mails on the word of others, whoever they are.
        """
        if self._mail_throttle is not None:
            await self._mail_throttle.take(email)
        tenant_id, token = account.context.tenant_id, secrets.token_urlsafe(32)
        new = NewInvitation(self._new_id(), email, email_key(email), role, _hash(token))
        async with self._database.tenant(tenant_id) as connection:
            await require_feature(connection, tenant_id, Feature.INVITATIONS)
            await members.lock(connection, tenant_id)
            await _check_inviter(connection, account, role)
            if await repository.has_member(connection, tenant_id, new.email_key):
                raise Conflict("A person with this e-mail address is a member already.")
            made = await repository.made_within(connection, tenant_id, timedelta(days=1))
            if made >= _MAX_A_DAY:
                raise TooManyRequests(
                    f"A tenant may invite {_MAX_A_DAY} people in 24 hours.", retry_after_s=3600
                )
            invitation = await repository.replace(connection, account.context, new, _LIFETIME)
            await record(connection, _event(account, Action.MEMBER_INVITED, invitation))
            if self._mail_throttle is not None:
                details = {"tenant_id": str(tenant_id), "invitation_id": str(invitation.id)}
                await post(connection, Occasion(MailKind.INVITATION, email, details))
            answer = NewInvitationOut.of(invitation)
            await effect.record(connection, 201, answer)
        return answer if self._mail_throttle else answer.model_copy(update={"token": token})

    async def page(self, account: Account, *, before: UUID | None, limit: int) -> list[Invitation]:
        """Return open invitations, newest first."""
        tenant_id = account.context.tenant_id
        async with self._database.tenant(tenant_id) as connection:
            return await repository.page(connection, tenant_id, before=before, limit=limit)

    async def withdraw(self, account: Account, invitation_id: UUID) -> None:
        """End an invitation before it is accepted.

        Raises:
            NotFound: There is none of that id that is open.
        """
        tenant_id = account.context.tenant_id
        async with self._database.tenant(tenant_id) as connection:
            if not await repository.delete(connection, tenant_id, invitation_id):
                raise NotFound("There is no such invitation.")
            subject = f"invitation:{invitation_id}"
            event = AuditEvent(tenant_id, Action.INVITATION_WITHDRAWN, account, subject=subject)
            await record(connection, event)

    async def accept(self, account: Account, token: str, effect: Effect) -> AcceptedOut:
        """Make the caller a member of the tenant that a token invites to; the token is used up.

        Raises:
            NotFound: There is no such invitation, it has run out, or was used or withdrawn, or who
                made it may not give that role any more.
            Forbidden: It is for another address.
            Conflict: The caller is a member already; the role stays.
        """
        token_hash = _hash(token)
        async with self._database.platform() as connection:
            tenant_id = await repository.tenant_of(connection, token_hash)
        if tenant_id is None:
            raise _unknown()
        async with self._database.tenant(tenant_id, account.context.user_id) as connection:
            answer = await _accept(connection, account, tenant_id, token_hash)
            await enter_tenant(connection, account.context.tenant_id)
            await effect.record(connection, 200, answer)
        return answer


class InvitationLetters:
    """Writes the letters to invited people, each with a fresh token."""

    def __init__(self, database: Database, writer: LetterWriter) -> None:
        """Store where invitations are and who writes."""
        self._database = database
        self._writer = writer

    async def compose(self, occasion: Occasion) -> Letter | None:
        """Return the letter of an invitation; None where it is not open any more."""
        token = secrets.token_urlsafe(32)
        tenant_id = UUID(occasion.details["tenant_id"])
        invitation_id = UUID(occasion.details["invitation_id"])
        async with self._database.tenant(tenant_id) as connection:
            found = await repository.renew_token(connection, tenant_id, invitation_id, _hash(token))
        return self._writer.invitation(*found, token) if found is not None else None


async def _accept(
    connection: Connection, account: Account, tenant_id: UUID, token_hash: bytes
) -> AcceptedOut:
    await members.lock(connection, tenant_id)
    found = await repository.find_open(connection, tenant_id, token_hash)
    if found is None:
        raise _unknown()
    invitation, invited = found
    user_id = account.context.user_id
    if await repository.email_key_of(connection, user_id) != invited:
        raise Forbidden("This invitation is for another person.")
    inviter = await repository.inviter_role(connection, invitation)
    if inviter is None or not _may_invite(inviter, invitation.role):
        raise _unknown()
    if not await members.insert(connection, tenant_id, user_id, invitation.role):
        raise Conflict("You are a member of this tenant already.")
    await repository.delete(connection, tenant_id, invitation.id)
    details = {"role": invitation.role, "invitation": str(invitation.id)}
    event = AuditEvent(
        tenant_id, Action.MEMBER_JOINED, user_id, subject=f"user:{user_id}", details=details
    )
    await record(connection, event)
    tenant = await tenants.find(connection, tenant_id)
    assert tenant is not None  # noqa: S101 (it is locked)
    return AcceptedOut(tenant=JoinedTenant(id=tenant.id, name=tenant.name), role=invitation.role)


async def _check_inviter(connection: Connection, account: Account, role: Role) -> None:
    if not _may_invite(await rank_role(connection, account), role):
        raise Forbidden("Owners and admins invite, and to no role above their own.")


def _may_invite(inviter: Role, role: Role) -> bool:
    return inviter.rank >= max(Role.ADMIN.rank, role.rank)


def _event(account: Account, action: Action, invitation: Invitation) -> AuditEvent:
    return AuditEvent(
        invitation.tenant_id,
        action,
        account,
        subject=f"invitation:{invitation.id}",
        details={"role": invitation.role},
    )


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


def _unknown() -> NotFound:
    return NotFound("There is no such invitation. It may have run out or been used.")
