"""The audit log: every act of weight, written in the transaction that does it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from uuid import UUID

from planes.shared.domain import new_id
from planes.shared.stores.postgres import Connection
from services.gateway.auth.models import Account
from services.gateway.tracing import current_address, current_trace_id


class Action(StrEnum):
    """What was done; the names are part of the public API."""

    REGISTERED = "user.registered"
    SIGNED_IN = "session.opened"
    SIGN_IN_FAILED = "session.refused"
    SIGNED_OUT = "session.ended"
    REFRESH_REUSED = "session.refresh-reused"
    PASSWORD_CHANGED = "user.password-changed"  # noqa: S105 (the name of an act)
    PASSWORD_RESET = "user.password-reset"  # noqa: S105 (likewise)
    EMAIL_VERIFIED = "user.email-verified"
    USER_DISABLED = "user.disabled"
    USER_ENABLED = "user.enabled"
    USER_DELETED = "user.deleted"
    USER_EXPORTED = "user.exported"
    IDENTITY_LINKED = "user.identity-linked"
    API_KEY_MADE = "api-key.made"
    API_KEY_ENDED = "api-key.ended"
    MEMBER_INVITED = "invitation.made"
    INVITATION_WITHDRAWN = "invitation.withdrawn"
    MEMBER_JOINED = "member.joined"
    MEMBER_CHANGED = "member.role-changed"
    MEMBER_REMOVED = "member.removed"
    TENANT_CHANGED = "tenant.changed"
    TENANT_EXPORTED = "tenant.exported"
    TENANT_DELETED = "tenant.deleted"
    FEEDBACK_REVIEWED = "feedback.reviewed"
    FEEDBACK_EXPORTED = "feedback.exported"
    DOCUMENT_DELETED = "document.deleted"
    WEBHOOK_MADE = "webhook.made"
    WEBHOOK_DELETED = "webhook.deleted"
    SOURCE_ADDED = "source.added"
    SOURCE_REMOVED = "source.removed"
    PLAN_CHANGED = "plan.changed"
    PAYMENT_RECEIVED = "payment.received"
    PAYMENT_FAILED = "payment.failed"


@dataclass(frozen=True, slots=True)
class AuditEvent:
    """One act.

    Attributes:
        tenant_id: In whose log it stands.
        action: What was done.
        actor: Who did it: an account, a user's id, or None for the operator or the platform.
        actor_kind: Only where `actor` is None: "operator" or "system".
        subject: What it was done to, as "kind:id".
        details: What else an owner needs to understand it; no secrets, no addresses of people.
    """

    tenant_id: UUID
    action: Action
    actor: Account | UUID | None = None
    actor_kind: str = "system"
    subject: str = ""
    details: Mapping[str, object] = field(default_factory=dict)


async def record(connection: Connection, event: AuditEvent) -> None:
    """Insert an act into the transaction of `connection`, which must see the event's tenant."""
    kind, actor_id, api_key_id = _who(event)
    await connection.execute(
        "INSERT INTO audit_log (id, tenant_id, actor_kind, actor_id, api_key_id, action, subject,"
        " details, address, trace_id) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        new_id(),
        event.tenant_id,
        kind,
        actor_id,
        api_key_id,
        event.action,
        event.subject,
        dict(event.details),
        current_address(),
        current_trace_id(),
    )


def _who(event: AuditEvent) -> tuple[str, UUID | None, UUID | None]:
    match event.actor:
        case Account(is_api_key=True) as account:
            return "api-key", account.context.user_id, account.session_id
        case Account() as account:
            return "user", account.context.user_id, None
        case UUID() as user_id:
            return "user", user_id, None
    return event.actor_kind, None, None
